"""The exact assignment, against brute force and an independent solver."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from turnout.core import InputError
from turnout.parts.assign import top_k
from turnout.parts.flow import LARGEST, best


def by_force(score, capacity, k):
    """Greatest total over all ways to give each item k different destinations; -inf if none."""
    n, m = score.shape
    sets = list(itertools.combinations(range(m), k))
    top = -np.inf
    for route in itertools.product(sets, repeat=n):
        load = np.bincount([j for chosen in route for j in chosen], minlength=m)
        if (load <= capacity).all():
            top = max(top, sum(score[i, list(chosen)].sum() for i, chosen in enumerate(route)))
    return top


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_equal_to_brute_force(n, m, data):
    """The total is the greatest, or there is none and it is refused; capacities hold."""
    k = data.draw(st.integers(1, m))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    score = np.round(rng.normal(size=(n, m)) * 2) / 2
    score[rng.random((n, m)) < 0.15] = -np.inf
    capacity = rng.integers(0, n + 2, size=m).astype(float)
    price = np.round(rng.random(m) * 2) / 2
    top = by_force(score - price, capacity, k)
    if np.isneginf(top):
        with pytest.raises(InputError, match="capacity must admit"):
            best(score, capacity, k=k, price=price)
        return
    flow = best(score, capacity, k=k, price=price)
    assert flow.total == pytest.approx(top)
    assert (flow.assignment.count() <= capacity).all()
    assert (flow.assignment.index >= 0).all()
    rows = np.arange(n)[:, None]
    assert (score - price)[rows, flow.assignment.index].sum() == pytest.approx(top)
    assert all(len(set(row)) == k for row in flow.assignment.index.tolist())
    np.testing.assert_allclose(flow.assignment.weight.sum(axis=1), 1.0)


def test_equal_to_an_independent_solver():
    """With one choice each, the total is that of matching items to single places."""
    rng = np.random.default_rng(5)
    score, capacity = rng.normal(size=(60, 5)), np.array([5, 20, 10, 30, 8])
    places = np.repeat(np.arange(5), capacity)
    rows, columns = linear_sum_assignment(-score[:, places])
    assert best(score, capacity).total == pytest.approx(score[:, places][rows, columns].sum())


def test_prices_clear_the_market():
    """At the dual prices every item has the destinations it likes best: no one envies.

    And a destination with room left costs nothing.
    """
    rng = np.random.default_rng(6)
    score, capacity = rng.normal(size=(40, 4)), np.array([6.0, 10.0, 40.0, 12.0])
    flow = best(score, capacity)
    net = score - flow.price
    got = net[np.arange(40), flow.assignment.index[:, 0]]
    np.testing.assert_allclose(got, net.max(axis=1), atol=1e-7)
    room = flow.assignment.count() < capacity
    np.testing.assert_allclose(flow.price[room], 0.0, atol=1e-9)
    assert (flow.price >= 0).all()


def test_without_limits_it_is_top_k():
    """Capacities that do not bind leave the best k of each item, in the same order."""
    score = np.random.default_rng(7).normal(size=(20, 6))
    flow = best(score, np.inf, k=3)
    plain = top_k(score, 3)
    assert flow.assignment.index.tolist() == plain.index.tolist()
    np.testing.assert_allclose(flow.assignment.weight, plain.weight)
    assert flow.price.tolist() == [0.0] * 6


def test_torch_gives_the_same():
    """Scores in torch give the same choices in torch."""
    torch = pytest.importorskip("torch")
    score = np.random.default_rng(8).normal(size=(12, 3))
    one, two = best(score, 5, k=1), best(torch.from_numpy(score), 5, k=1)
    assert isinstance(two.assignment.index, torch.Tensor)
    assert two.assignment.index.tolist() == one.assignment.index.tolist()
    assert two.total == one.total


def test_scale_does_not_matter():
    """Scores in millions or millionths give the same choices."""
    score = np.random.default_rng(9).normal(size=(30, 4))
    choices = [best(score * scale, 9).assignment.index.tolist() for scale in (1e-6, 1.0, 1e6)]
    assert choices[0] == choices[1] == choices[2]


def test_empty_batch_and_down():
    """No item is no problem; nobody is sent to a destination that is down."""
    assert best(np.empty((0, 3)), 1, k=2).assignment.index.shape == (0, 2)
    score = np.zeros((4, 2))
    flow = best(score, 4, up=np.array([False, True]))
    assert flow.assignment.index.ravel().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("score", "capacity", "k", "field"),
    [
        (np.zeros((3, 2)), 1, 1, "capacity"),
        (np.zeros((3, 2)), [1.5, 1.9], 1, "capacity"),
        (np.zeros((3, 2)), [1.0], 1, "capacity"),
        (np.zeros((3, 2)), -1, 1, "capacity[0]"),
        (np.zeros((3, 2)), 3, 3, "k"),
        (np.full((3, 2), np.nan), 3, 1, "score"),
        (np.zeros((LARGEST, 2)), 3, 1, "score"),
    ],
)
def test_refuses_by_name(score, capacity, k, field):
    """Too little room, k out of range, bad scores and cases too large are refused."""
    with pytest.raises(InputError) as caught:
        best(score, capacity, k=k)
    assert caught.value.field == field
