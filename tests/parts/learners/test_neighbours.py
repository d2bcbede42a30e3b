"""Nearest-neighbour means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.parts.learners.neighbours import Memory


def neighbour_means(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, k: int, shrink: float = 0.0
) -> np.ndarray:
    return Memory(keys=keys, values=values, k=k, shrink=shrink).means(queries)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _brute(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """The definition, cell by cell."""
    result = np.empty((len(queries), values.shape[1]))
    for i, query in enumerate(queries):
        for j in range(values.shape[1]):
            seen = np.flatnonzero(~np.isnan(values[:, j]))
            near = sorted(seen, key=lambda row: -float(keys[row] @ query))[:k]
            result[i, j] = np.mean([values[row, j] for row in near])
    return result


def test_two_neighbours_by_hand() -> None:
    """Of keys at 0, 10, 90 degrees the two nearest to 4 degrees are the first two."""
    angles = np.radians([0.0, 10.0, 90.0])
    keys = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    query = np.array([[np.cos(np.radians(4)), np.sin(np.radians(4))]], dtype=np.float32)
    values = np.array([[1.0, 0.2], [0.0, 0.4], [0.0, 1.0]])
    assert neighbour_means(query, keys, values, 2) == pytest.approx(np.array([[0.5, 0.3]]))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_equals_the_definition_with_blanks(seed: int, k: int) -> None:
    """Every column has its own k neighbours among the rows that saw it."""
    rng = np.random.default_rng(seed)
    keys, queries = _unit(rng.standard_normal((12, 5))), _unit(rng.standard_normal((4, 5)))
    values = rng.random((12, 3))
    values[rng.random((12, 3)) < 0.4] = np.nan
    values[0] = 0.5
    expected = _brute(queries, keys, values, k)
    assert neighbour_means(queries, keys, values, k) == pytest.approx(expected)


def test_ties_at_the_edge_all_count() -> None:
    """Copies of one key count together, so the order of the table changes nothing."""
    keys = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    values = np.array([[1.0], [0.0], [0.5], [0.0]])
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    assert neighbour_means(query, keys, values, 1)[0, 0] == pytest.approx(0.5)
    order = [2, 3, 0, 1]
    assert neighbour_means(query, keys[order], values[order], 1)[0, 0] == pytest.approx(0.5)


def test_shrinking_is_a_weighted_mean_by_hand() -> None:
    """One neighbour at 1, an overall mean of 0.25, weight 3: (1 + 3 * 0.25) / 4."""
    keys = np.eye(4, dtype=np.float32)
    values = np.array([[1.0], [0.0], [0.0], [0.0]])
    found = neighbour_means(keys[:1], keys, values, 1, shrink=3.0)
    assert found[0, 0] == pytest.approx(0.4375)


def test_as_many_neighbours_as_rows_give_the_mean() -> None:
    """With k >= n the query no longer matters."""
    rng = np.random.default_rng(0)
    keys, values = _unit(rng.standard_normal((6, 3))), rng.random((6, 2))
    found = neighbour_means(_unit(rng.standard_normal((5, 3))), keys, values, 9)
    assert found == pytest.approx(np.tile(values.mean(axis=0), (5, 1)))


def test_long_batches_are_cut_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch worked off in pieces gives what it gives at once."""
    rng = np.random.default_rng(1)
    keys, queries = _unit(rng.standard_normal((30, 4))), _unit(rng.standard_normal((11, 4)))
    values = rng.random((30, 2))
    whole = neighbour_means(queries, keys, values, 3)
    monkeypatch.setattr("turnout.parts.learners.neighbours._CELLS", 60)
    assert neighbour_means(queries, keys, values, 3) == pytest.approx(whole)


def test_no_queries() -> None:
    """An empty batch keeps its columns."""
    keys = np.eye(2, dtype=np.float32)
    assert neighbour_means(keys[:0], keys, np.ones((2, 3)), 1).shape == (0, 3)
