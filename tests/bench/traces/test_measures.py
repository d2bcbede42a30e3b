"""Measures of load, specialisation, drops and weights: by hand, and by what they must keep."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.bench.traces import measures
from turnout.core import InputError


def by_hand() -> np.ndarray:
    """Four tokens, two layers, two choices of three experts; -1 is no choice."""
    return np.array([[[0, 1], [2, -1]], [[0, 2], [2, -1]], [[0, 1], [2, -1]], [[-1, -1], [2, 0]]])


def test_counts_by_hand() -> None:
    """Choices by layer and expert; what was not chosen counts nowhere."""
    assert measures.counts(by_hand(), 3).tolist() == [[3, 2, 1], [1, 0, 4]]


def test_counts_by_label_by_hand() -> None:
    """A token of unknown label counts nowhere."""
    table = measures.counts_by(by_hand()[:, 0], 3, np.array([1, -1, 1, 0]), 2)
    assert table.tolist() == [[0, 0, 0], [2, 2, 0]]


def test_load_by_hand() -> None:
    """Loads 6, 3, 3, 0: mean 3, standard deviation sqrt(4.5), entropy 1.5 bits of 2."""
    table = np.array([[6, 3, 3, 0], [0, 0, 0, 0]])
    assert measures.max_over_mean(table)[0] == 2.0
    assert measures.variation(table)[0] == pytest.approx(math.sqrt(4.5) / 3)
    assert measures.entropy(table)[0] == pytest.approx(0.75)
    assert measures.dead(table).tolist() == [1, 4]
    assert measures.top_share(table, 2)[0] == 0.75
    for measure in (measures.max_over_mean, measures.variation, measures.entropy):
        assert math.isnan(measure(table)[1])
    with pytest.raises(InputError, match="n must lie in"):
        measures.top_share(table, 5)


@pytest.mark.parametrize("e", [1, 2, 7])
def test_an_even_load_and_a_collapsed_one(e: int) -> None:
    """Even: entropy 1, max / mean 1, variation 0. Collapsed on one of many: 0, e, sqrt(e - 1)."""
    even, collapsed = np.full(e, 5), 5 * np.eye(e, dtype=int)[0]
    assert measures.entropy(even) == pytest.approx(1.0)
    assert measures.max_over_mean(even) == 1.0
    assert measures.variation(even) == 0.0
    if e > 1:
        assert measures.entropy(collapsed) == 0.0
        assert measures.max_over_mean(collapsed) == e
        assert measures.variation(collapsed) == pytest.approx(math.sqrt(e - 1))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3))
def test_relabelling_experts_relabels_counts(seed: int, e: int, k: int) -> None:
    """Measures of load do not depend on the numbers of the experts; counts follow them."""
    rng = np.random.default_rng(seed)
    experts = rng.integers(-1, e, (20, 2, k))
    names = rng.permutation(e)
    renamed = np.where(experts >= 0, names[experts], -1)
    before, after = measures.counts(experts, e), measures.counts(renamed, e)
    assert (after[:, names] == before).all()
    for measure in (measures.entropy, measures.max_over_mean, measures.variation, measures.dead):
        np.testing.assert_allclose(measure(after), measure(before))
    labels = rng.integers(-1, 3, 20)
    one = measures.specialisation(measures.counts_by(experts[:, 0], e, labels, 3), k=k)
    two = measures.specialisation(measures.counts_by(renamed[:, 0], e, labels, 3), k=k)
    np.testing.assert_allclose([one.bits, one.raw], [two.bits, two.raw], atol=1e-12)


def test_specialisation_by_hand() -> None:
    """Two labels, each with an expert of its own: 1 bit; the correction for 8 choices is 1/16 nat.

    With v = 2 labels, a = 2 experts and k = 1, (v - 1)(a - 1) / (2 n ln 2), n = 8.
    """
    found = measures.specialisation(np.array([[4, 0], [0, 4]]))
    assert found.raw == pytest.approx(1.0)
    assert found.bias == pytest.approx(1 / 16 / math.log(2))
    assert found.bits == pytest.approx(1 - 1 / 16 / math.log(2))
    assert found.covered == 1.0
    # One label alone differs by 1 bit less (a - 1) / (2 n_v ln 2) (1 - n_v / n).
    np.testing.assert_allclose(found.by_label, 1 - 1 / 8 / math.log(2) * 0.5)


def test_specialisation_leaves_rare_labels_out() -> None:
    """A label below `least` tokens is not told, and what is left counts as covered."""
    found = measures.specialisation(np.array([[4, 4], [1, 0], [3, 4]]), least=2)
    assert math.isnan(found.by_label[1])
    assert found.covered == pytest.approx(15 / 16)
    # Two choices a token: 2 tokens are 4 choices, which the first row has and the third has not.
    pairs = measures.specialisation(np.array([[2, 2], [8, 0], [2, 1]]), k=2, least=2)
    assert np.isnan(pairs.by_label).tolist() == [False, False, True]
    nothing = measures.specialisation(np.zeros((2, 3), dtype=int))
    assert math.isnan(nothing.bits)


@pytest.mark.parametrize("k", [1, 4])
def test_specialisation_of_chance_is_nought(routers: SimpleNamespace, k: int) -> None:
    """Labels that tell nothing: counted bits are plain above 0, corrected ones within noise.

    The correction takes into account that the k choices of a token are different experts.
    """
    e, v = 32, 20
    raw, corrected = [], []
    for seed in range(20):
        experts = routers.even(6000, 1, k, e, seed)[:, 0]
        labels = np.random.default_rng(100 + seed).integers(0, v, 6000)
        found = measures.specialisation(measures.counts_by(experts, e, labels, v), k=k)
        raw.append(found.raw)
        corrected.append(found.raw - found.bias)
    assert np.mean(raw) > 0.01
    assert abs(np.mean(corrected)) < 0.06 * np.mean(raw)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_specialisation_stays_in_its_bounds(seed: int) -> None:
    """Mutual information is at least 0 and at most the smaller of the two entropies."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 9, (rng.integers(1, 5), rng.integers(1, 6)))
    found = measures.specialisation(table)
    if table.sum():
        limit = math.log2(min(table.shape))
        assert -1e-9 <= found.raw <= limit + 1e-9
        assert 0 <= found.bits <= found.raw + 1e-9


def test_lift_by_hand() -> None:
    """Shares of a label over shares of all; what was never seen is not told."""
    table = np.array([[6, 2, 0], [2, 6, 0]])
    expected = [[1.5, 0.5, math.nan], [0.5, 1.5, math.nan]]
    np.testing.assert_allclose(measures.lift(table), expected)


def test_drops_by_hand() -> None:
    """Dropped over kept and dropped; an empty layer is not told."""
    experts = np.array([[[0, -1], [-1, -1]], [[1, 0], [-1, -1]]])
    dropped = np.zeros(experts.shape, dtype=bool)
    dropped[0, 0, 1] = True
    np.testing.assert_allclose(measures.drop_share(experts, dropped), [0.25, math.nan])


def test_weights_by_hand() -> None:
    """Halves use two experts, one alone uses one; a token without weight is left out."""
    weights = np.array([[[0.5, 0.5], [1.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(measures.top_weight(weights), [0.75, 1.0])
    np.testing.assert_allclose(measures.effective_experts(weights), [1.5, 1.0])
    assert np.isnan(measures.top_weight(np.zeros((1, 1, 2)))).all()


def test_known_mean_by_hand() -> None:
    """NaN counts nowhere, and stays where there is nothing else."""
    values = np.array([[1.0, math.nan], [3.0, math.nan]])
    np.testing.assert_allclose(measures.known_mean(values, axis=0), [2.0, math.nan])
    assert measures.known_mean(values) == 2.0
