"""The exact frontier and the spending of a budget, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from turnout.core import Budget, InputError
from turnout.parts import prices

UP = np.ones


def tables(max_n=4, max_m=4, cells=8):
    """Quality and cost on coarse grids: ties, equal costs and zero costs abound; some are down."""

    @st.composite
    def draw_tables(draw):
        n, m = draw(st.integers(1, max_n)), draw(st.integers(1, max_m))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        quality = rng.integers(0, cells + 1, size=(n, m)) / cells
        cost = rng.integers(0, draw(st.sampled_from([1, 3, cells])) + 1, size=(n, m)) / 4
        up = rng.random(m) < draw(st.sampled_from([1.0, 0.6]))
        up[rng.integers(m)] = True
        return quality, cost, up

    return draw_tables()


def at_price(quality, cost, price, up):
    """(sum of quality, sum of cost) of the rule, by the plainest loop."""
    total = np.zeros(2)
    for q, c in zip(quality, cost, strict=True):
        best = max(
            (j for j in range(len(q)) if up[j]), key=lambda j: (q[j] - price * c[j], -c[j], -j)
        )
        total += q[best], c[best]
    return total


@settings(deadline=None, max_examples=80)
@given(tables(), st.sampled_from([0.0, 0.01, 0.25, 0.3, 1.0, 4.0, 100.0]))
def test_choose_is_the_plain_loop(table, price):
    """Best of quality - price * cost, ties to the cheaper and then to the lower column."""
    quality, cost, up = table
    choice = prices.choose(quality, cost, price, up)
    rows = np.arange(len(quality))
    assert up[choice].all()
    got = quality[rows, choice].sum(), cost[rows, choice].sum()
    np.testing.assert_allclose(got, at_price(quality, cost, price, up))


def test_choose_at_an_infinite_price_is_the_cheapest():
    """The cheapest, ties to the better; a destination that is down never."""
    quality = np.array([[0.1, 0.9, 0.5]])
    cost = np.array([[1.0, 1.0, 0.0]])
    assert prices.choose(quality, cost, np.inf).tolist() == [2]
    assert prices.choose(quality, cost, np.inf, np.array([True, True, False])).tolist() == [1]


@settings(deadline=None, max_examples=80)
@given(tables())
def test_every_breakpoint_is_there_and_no_other(table):
    """Between breakpoints the frontier is the rule at any price there; at each it changes.

    This is brute force over every interval, so no grid can have missed anything.
    """
    quality, cost, up = table
    n = len(quality)
    frontier = prices.relax(quality, cost, up).frontier(quality, cost)
    edges = np.append(frontier.knob, 0.0)
    assert (np.diff(edges) < 0).all()
    assert edges[0] == np.inf
    for point in range(len(frontier)):
        high, low = edges[point], edges[point + 1]
        inside = low + 1.0 if np.isinf(high) else (low + high) / 2
        q, c = at_price(quality, cost, inside, up) / n
        assert frontier.quality[point] == pytest.approx(q)
        assert frontier.cost[point] == pytest.approx(c)
    assert (np.diff(frontier.quality) > 0).all()
    assert (np.diff(frontier.cost) > 0).all()


@settings(deadline=None, max_examples=60)
@given(tables())
def test_the_frontier_is_concave_and_ends_free(table):
    """Slopes are the prices of the breakpoints; the last point spends freely."""
    quality, cost, up = table
    switches = prices.relax(quality, cost, up)
    frontier = switches.frontier(quality, cost)
    slopes = np.diff(frontier.quality) / np.diff(frontier.cost)
    np.testing.assert_allclose(slopes, frontier.knob[1:], rtol=1e-9)
    free = prices.choose(quality, cost, 0.0, up)
    rows = np.arange(len(quality))
    last = switches.after(len(switches.price))
    assert quality[rows, last].sum() == quality[rows, free].sum()
    assert cost[rows, last].sum() == cost[rows, free].sum()


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(0, 2**32 - 1))
def test_any_table_can_be_read_along_the_switches(table, seed):
    """Deltas and choices agree after any number of switches, on a table of the truth too."""
    quality, cost, up = table
    rng = np.random.default_rng(seed)
    truth = rng.random(quality.shape)
    switches = prices.relax(quality, cost, up, rng=rng)
    rows = np.arange(len(quality))
    total = truth[rows, switches.start].sum() + np.concatenate(
        ([0.0], np.cumsum(switches.deltas(truth)))
    )
    for count in range(len(switches.price) + 1):
        assert truth[rows, switches.after(count)].sum() == pytest.approx(total[count])


@settings(deadline=None, max_examples=60)
@given(tables(max_n=3, max_m=3), st.floats(0.0, 1.0))
def test_a_cost_budget_against_enumeration_and_linear_programme(table, share):
    """Within the budget, at most one switch below the programme's bound, hence near the best.

    The linear programme over mixed choices bounds every assignment from above; enumeration of
    all m^n assignments is the best whole one.
    """
    quality, cost, up = table
    n, m = quality.shape
    rows = np.arange(n)
    low = cost[rows, prices.choose(quality, cost, np.inf, up)].sum()
    high = cost[rows, prices.choose(quality, cost, 0.0, up)].sum()
    limit = (low + share * (high - low)) / n
    choice = prices.spend(quality, cost, Budget(mean_cost=limit), up, rng=np.random.default_rng(0))
    assert up[choice].all()
    assert cost[rows, choice].mean() <= limit * (1 + 1e-9) + 1e-12
    got = quality[rows, choice].sum()
    best = max(
        sum(quality[i, j] for i, j in enumerate(route))
        for route in itertools.product(np.flatnonzero(up), repeat=n)
        if sum(cost[i, j] for i, j in enumerate(route)) <= limit * n * (1 + 1e-9) + 1e-12
    )
    bound = -linprog(
        -quality.ravel(),
        A_ub=cost.ravel()[None, :],
        b_ub=[limit * n + 1e-9],
        A_eq=np.kron(np.eye(n), np.ones(m)),
        b_eq=np.ones(n),
        bounds=[(0.0, float(up[j])) for _ in range(n) for j in range(m)],
    ).fun
    gains = prices.relax(quality, cost, up).deltas(quality)
    assert got <= best + 1e-9
    assert best <= bound + 1e-6
    assert got >= bound - gains.max(initial=0.0) - 1e-6


@settings(deadline=None, max_examples=60)
@given(tables(max_n=3, max_m=3), st.floats(0.0, 1.0))
def test_a_quality_floor_is_reached_with_the_fewest_switches(table, share):
    """The floor is reached; one switch less would miss it."""
    quality, cost, up = table
    rows = np.arange(len(quality))
    switches = prices.relax(quality, cost, up)
    low = quality[rows, switches.start].mean()
    high = quality[rows, switches.after(len(switches.price))].mean()
    floor = low + share * (high - low)
    choice = prices.spend(
        quality, cost, Budget(mean_quality=floor), up, rng=np.random.default_rng(0)
    )
    assert quality[rows, choice].mean() >= floor - 1e-9
    reached = [quality[rows, switches.after(r)].mean() for r in range(len(switches.price) + 1)]
    fewest = next(r for r, value in enumerate(reached) if value >= floor * (1 - 1e-12))
    assert quality[rows, choice].mean() == pytest.approx(reached[fewest], abs=quality.max())
    spent = cost[rows, choice].mean()
    assert spent <= cost[rows, switches.after(len(switches.price))].mean() + 1e-12


def test_a_floor_below_the_cheapest_costs_nothing_more():
    """What the cheapest already reach needs no switch."""
    quality, cost = np.array([[0.5, 1.0]]), np.array([[1.0, 2.0]])
    choice = prices.spend(
        quality, cost, Budget(mean_quality=0.4), UP(2, bool), rng=np.random.default_rng(0)
    )
    assert choice.tolist() == [0]


def test_hand_worked_frontier():
    """Two items: slopes 0.4 / 1 and 0.3 / 2 for the first, 0.1 / 1 for the second.

    The second item's middle destination (cost 1, quality 0.5) lies under its hull.
    """
    quality = np.array([[0.2, 0.6, 0.9], [0.5, 0.5, 0.7]])
    cost = np.array([[0.0, 1.0, 3.0], [0.0, 1.0, 2.0]])
    switches = prices.relax(quality, cost)
    np.testing.assert_allclose(switches.price, [0.4, 0.15, 0.1])
    assert switches.item.tolist() == [0, 0, 1]
    assert switches.to.tolist() == [1, 2, 2]
    frontier = switches.frontier(quality, cost)
    np.testing.assert_allclose(frontier.cost, [0, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(frontier.quality, [0.35, 0.55, 0.7, 0.8])


def test_one_destination_has_one_point():
    """With nowhere else to go there is no breakpoint, and every feasible budget gives the same."""
    quality, cost = np.array([[0.5], [0.7]]), np.array([[1.0], [3.0]])
    switches = prices.relax(quality, cost)
    assert len(switches.price) == 0
    assert len(switches.frontier(quality, cost)) == 1
    for budget in (Budget(), Budget(mean_cost=2.0), Budget(price=9.0), Budget(mean_quality=0.6)):
        choice = prices.spend(quality, cost, budget, UP(1, bool), rng=np.random.default_rng(0))
        assert choice.tolist() == [0, 0]


def test_free_destinations_are_used_at_once():
    """At equal cost the better is taken at any price; a zero budget still takes what is free."""
    quality = np.array([[0.1, 0.8, 0.9]])
    cost = np.array([[0.0, 0.0, 1.0]])
    for budget in (Budget(mean_cost=0.0), Budget(price=1e9)):
        choice = prices.spend(quality, cost, budget, UP(3, bool), rng=np.random.default_rng(0))
        assert choice.tolist() == [1]


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (Budget(mean_cost=0.5), "budget.mean_cost"),
        (Budget(mean_quality=0.95), "budget.mean_quality"),
    ],
)
def test_what_cannot_be_had_is_refused(budget, field):
    """A budget below the cheapest and a floor above the best are refused with the bound."""
    quality, cost = np.array([[0.5, 0.9]]), np.array([[1.0, 2.0]])
    with pytest.raises(InputError) as caught:
        prices.spend(quality, cost, budget, UP(2, bool), rng=np.random.default_rng(0))
    assert caught.value.field == field
    assert "1" in caught.value.rule or "0.9" in caught.value.rule


def test_ties_are_spread_by_the_generator():
    """Items at one price switch in an order drawn at random: not always the first rows."""
    quality = np.tile([0.0, 1.0], (40, 1))
    cost = np.tile([0.0, 1.0], (40, 1))
    first = [
        prices.spend(
            quality, cost, Budget(mean_cost=0.5), UP(2, bool), rng=np.random.default_rng(seed)
        )
        for seed in (1, 2, 1)
    ]
    assert all(choice.sum() == 20 for choice in first)
    assert first[0].tolist() == first[2].tolist()
    assert first[0].tolist() != first[1].tolist()


@settings(deadline=None, max_examples=60)
@given(tables(max_n=6), st.integers(0, 2**32 - 1))
def test_relabelling_destinations_relabels_the_curve(table, seed):
    """The frontier does not depend on the order of destinations or items."""
    quality, cost, up = table
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(quality.shape[0]), rng.permutation(quality.shape[1])
    one = prices.relax(quality, cost, up).frontier(quality, cost)
    q, c = quality[rows][:, columns], cost[rows][:, columns]
    two = prices.relax(q, c, up[columns]).frontier(q, c)
    np.testing.assert_allclose(one.cost, two.cost)
    np.testing.assert_allclose(one.quality, two.quality)
    np.testing.assert_allclose(one.knob, two.knob)


def test_many_items_stay_exact():
    """On continuous figures every point of a long frontier is what the rule gives there."""
    rng = np.random.default_rng(3)
    quality, cost = rng.random((300, 5)), rng.random((300, 5))
    up = np.ones(5, dtype=bool)
    frontier = prices.relax(quality, cost).frontier(quality, cost)
    edges = np.append(frontier.knob, 0.0)
    for point in rng.integers(1, len(frontier), size=20):
        q, c = at_price(quality, cost, (edges[point] + edges[point + 1]) / 2, up) / 300
        assert frontier.quality[point] == pytest.approx(q)
        assert frontier.cost[point] == pytest.approx(c)
