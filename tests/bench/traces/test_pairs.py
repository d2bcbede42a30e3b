"""Pairs of experts: by hand, against loops, and by what they must keep."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.bench.traces import pairs


def slowly(experts: np.ndarray, e: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The definitions, token by token."""
    t, layers, _ = experts.shape
    together = np.zeros((layers, e, e))
    follows = np.zeros((layers - 1, e, e))
    overlap: list[list[float]] = [[] for _ in range(layers - 1)]
    for token in range(t):
        sets = [sorted(set(experts[token, layer].tolist()) - {-1}) for layer in range(layers)]
        for layer, chosen in enumerate(sets):
            for i, j in itertools.product(chosen, chosen):
                together[layer, i, j] += 1
            if layer and chosen and sets[layer - 1]:
                last = sets[layer - 1]
                for i, j in itertools.product(last, chosen):
                    follows[layer - 1, i, j] += 1 / (len(last) * len(chosen))
                shared = len(set(last) & set(chosen))
                overlap[layer - 1].append(shared / min(len(last), len(chosen)))
    return together, follows, np.array([np.mean(v) if v else math.nan for v in overlap])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_matrices_are_the_definitions(seed: int) -> None:
    """Products of matrices count what loops count, empty slots and repeats included."""
    rng = np.random.default_rng(seed)
    e, layers, k = rng.integers(1, 6), rng.integers(1, 4), rng.integers(1, 4)
    experts = rng.integers(-1, e, (rng.integers(1, 30), layers, k))
    if rng.random() < 0.5:  # every token chooses equally many: the quick way through
        experts = np.argsort(rng.random((30, layers, e)), axis=2)[:, :, :k]
    found = pairs.count_pairs(experts, int(e))
    together, follows, overlap = slowly(experts, int(e))
    np.testing.assert_allclose(found.together, together)
    np.testing.assert_allclose(found.follows, follows, atol=1e-5)
    np.testing.assert_allclose(found.overlap, overlap, rtol=1e-5)


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch, routers: SimpleNamespace) -> None:
    """A trace longer than one product gives the same, and progress ends at its length."""
    experts = routers.even(50, 3, 2, 6)
    whole = pairs.count_pairs(experts, 6)
    monkeypatch.setattr(pairs, "_CHUNK", 7)
    told: list[tuple[int, int]] = []
    parts = pairs.count_pairs(experts, 6, tick=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(parts.together, whole.together)
    np.testing.assert_allclose(parts.follows, whole.follows, atol=1e-5)
    np.testing.assert_allclose(parts.overlap, whole.overlap, rtol=1e-5)
    assert told[-1] == (50, 50)


def test_relabelling_experts_permutes_the_matrices(routers: SimpleNamespace) -> None:
    """Numbers of experts are names and nothing else."""
    experts = routers.even(200, 2, 3, 7)
    names = np.random.default_rng(1).permutation(7)
    before = pairs.count_pairs(experts, 7)
    after = pairs.count_pairs(names[experts], 7)
    np.testing.assert_allclose(after.together[:, names][:, :, names], before.together)
    np.testing.assert_allclose(after.follows[:, names][:, :, names], before.follows, atol=1e-4)


def test_lift_and_association_by_hand() -> None:
    """Two pairs that always meet among four experts: 3 times chance, log2 3 bits.

    k = 2, e = 4: a pair's chance is 1 in 6, and each of the two takes half.
    """
    together = np.zeros((4, 4))
    together[:2, :2] = together[2:, 2:] = 10
    lift = pairs.pair_lift(together, 20)
    assert lift[0, 1] == pytest.approx(3.0)
    assert lift[0, 2] == 0.0
    assert np.isnan(np.diagonal(lift)).all()
    assert pairs.association(together, 20) == pytest.approx(math.log2(3))


def test_an_even_router_has_lift_one(routers: SimpleNamespace) -> None:
    """Drawing k of e evenly is chance itself, though a token never draws one twice."""
    together = pairs.count_pairs(routers.even(20_000, 1, 3, 6), 6).together[0]
    lift = pairs.pair_lift(together, 20_000)
    assert np.nanmax(np.abs(lift - 1)) < 0.05
    assert pairs.association(together, 20_000) < 1e-3


def test_one_choice_has_no_pairs() -> None:
    """With k = 1, or one expert, there is nothing to meet."""
    together = np.diag([3.0, 4.0])
    assert np.isnan(pairs.pair_lift(together, 7)).all()
    assert math.isnan(pairs.association(together, 7))


def test_dependence_by_hand() -> None:
    """The next expert is fixed by this one: 1 bit, less (2 - 1)(2 - 1) / (2 t ln 2)."""
    follows = np.diag([50.0, 50.0])
    assert pairs.dependence(follows, t=100) == pytest.approx(1 - 1 / 200 / math.log(2))
    assert math.isnan(pairs.dependence(np.zeros((2, 2)), t=0))


@pytest.mark.parametrize("k", [1, 3])
def test_dependence_of_chance_is_nought(routers: SimpleNamespace, k: int) -> None:
    """Layers that route on their own: what is left after the correction is noise around 0."""
    e, t, left, counted = 12, 4000, [], []
    for seed in range(12):
        follows = pairs.count_pairs(routers.even(t, 2, k, e, seed), e).follows[0]
        q = follows / follows.sum()
        chance = np.outer(q.sum(axis=1), q.sum(axis=0))
        raw = (q * np.log2(np.where(q > 0, q / chance, 1.0))).sum()
        counted.append(raw)
        left.append(raw - (e - k) ** 2 / (2 * t * k * k * math.log(2)))
        assert pairs.dependence(follows, t=t, k=k) == pytest.approx(max(left[-1], 0.0))
    assert abs(np.mean(left)) < 0.1 * np.mean(counted)
