"""The forest over forms."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.learners.trees import PRIOR, ROWS, Forest, contrasts, fit_forest


def _forest() -> Forest:
    """Two trees: one splits twice, one is but a leaf."""
    return Forest(
        roots=np.array([0, ~3], dtype=np.int32),
        column=np.array([1, 0], dtype=np.int32),
        threshold=np.array([0.5, 2.0], dtype=np.float32),
        children=np.array([[~0, 1], [~1, ~2]], dtype=np.int32),
        value=np.array([[0.25, 1.0], [0.5, 0.0], [0.75, 0.5], [0.0, 0.5]], dtype=np.float32),
        d=2,
    )


def _planted(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One column of three says which of two destinations is right."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3)).astype(np.float32)
    right = np.where(x[:, 1] > 0.6, 0.9, 0.2)
    return x, (rng.random((n, 2)) < np.stack((right, 1 - right), axis=1)).astype(float)


def test_a_forest_by_hand() -> None:
    """Left where the column is no greater than the threshold; the mean over both trees."""
    x = np.array([[9.0, 0.5], [2.0, 0.6], [2.1, 0.6]], dtype=np.float32)
    right = [[0.125, 0.75], [0.25, 0.25], [0.375, 0.5]]
    forest = _forest()
    assert forest.predict(x).tolist() == right
    assert [forest.predict_one(row) for row in x.tolist()] == right


def test_it_finds_what_was_planted() -> None:
    """On the column that tells, and not beyond what was seen."""
    x, quality = _planted()
    forest = fit_forest(x, quality, trees=30, share=0.7, rng=np.random.default_rng(0))
    ask = np.array([[0.5, 0.1, 0.5], [0.5, 0.95, 0.5]], dtype=np.float32)
    low, high = forest.predict(ask)
    assert low[0] < 0.35 < 0.65 < low[1]
    assert high[1] < 0.35 < 0.65 < high[0]


def test_one_at_a_time_gives_the_same_bits() -> None:
    """Batches and single rows agree exactly, whatever order the trees are added in."""
    x, quality = _planted()
    forest = fit_forest(x, quality, trees=40, share=0.5, rng=np.random.default_rng(1))
    assert forest.predict(x[:50]).tolist() == [forest.predict_one(row) for row in x[:50].tolist()]
    back = Forest(
        forest.roots[::-1].copy(),
        *(forest.column, forest.threshold, forest.children, forest.value, forest.d),
    )
    assert (back.predict(x) == forest.predict(x)).all()


def test_the_same_generator_grows_the_same_forest() -> None:
    """And another one another."""
    x, quality = _planted(200)
    one, same, other = (
        fit_forest(x, quality, trees=5, share=0.5, rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert (one.threshold == same.threshold).all()
    assert one.threshold.tolist() != other.threshold.tolist()


def test_a_leaf_is_a_mean_drawn_to_the_mean_of_all() -> None:
    """With one leaf a tree the value is the column's mean; an unseen column has the table's."""
    x = np.zeros((8, 1), dtype=np.float32)
    quality = np.full((8, 2), np.nan)
    quality[:4, 0] = [1, 1, 1, 0]
    forest = fit_forest(x, quality, trees=2, share=1.0, rng=np.random.default_rng(0))
    mean = (3 + PRIOR * 0.75) / (4 + PRIOR)
    first = (3 + PRIOR * mean) / (4 + PRIOR)
    assert forest.predict(x[:1])[0] == pytest.approx([first, 0.75], abs=1e-6)


def test_cells_never_seen_are_left_out() -> None:
    """Half of the cells at random teach the same as a table of half the size, about."""
    x, quality = _planted(1200)
    quality[np.random.default_rng(5).random(quality.shape) < 0.5] = np.nan
    forest = fit_forest(x, quality, trees=30, share=0.7, rng=np.random.default_rng(0))
    ask = np.array([[0.5, 0.1, 0.5], [0.5, 0.95, 0.5]], dtype=np.float32)
    assert (np.sign(forest.predict(ask) - 0.5) == [[-1, 1], [1, -1]]).all()


def test_what_all_destinations_share_is_no_reason_to_split() -> None:
    """The structure follows differences: adding to all of a row alike changes no split."""
    x, quality = _planted(800)
    both = np.where(x[:, [0]] > 0.5, 0.5, 0.0)
    plain, moved = (
        fit_forest(x, values, trees=20, share=1.0, leaf=100, rng=np.random.default_rng(0))
        for values in (quality * 0.5, quality * 0.5 + both)
    )
    assert (plain.threshold == moved.threshold).all()
    assert (plain.column == moved.column).all()


def test_of_many_destinations_the_main_differences_are_kept() -> None:
    """Twelve columns become eight, of single choices each its own less its mean."""
    rng = np.random.default_rng(0)
    assert contrasts(rng.random((30, 12))).shape == (30, 8)
    assert contrasts(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [[0.5], [-0.5]]
    single = np.array([[1.0, np.nan], [0.0, np.nan], [np.nan, 1.0]])
    assert contrasts(single).tolist() == [[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]]


def test_a_large_table_fills_leaves_that_a_part_of_it_grew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The structure comes from a sample; the counts behind the leaves from all rows."""
    monkeypatch.setattr("turnout.parts.learners.trees.ROWS", 300)
    assert ROWS > 300
    x, quality = _planted(3000)
    forest = fit_forest(x, quality, trees=10, share=0.7, rng=np.random.default_rng(0))
    low, high = forest.predict(np.array([[0.5, 0.1, 0.5], [0.5, 0.95, 0.5]], dtype=np.float32))
    assert low[0] < 0.4 < 0.6 < high[0]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("roots", np.empty(0, dtype=np.int32), "at least one tree"),
        ("roots", np.array([2], dtype=np.int32), "nodes and to leaves"),
        ("column", np.array([1, 2], dtype=np.int32), "below 2"),
        ("column", np.array([1, 0], dtype=np.int64), "of i4"),
        ("children", np.array([[0, 1], [~1, ~2]], dtype=np.int32), "later nodes"),
        ("children", np.array([[~0, 1], [~1, ~4]], dtype=np.int32), "leaves there are"),
    ],
)
def test_a_damaged_forest_is_refused(field: str, value: np.ndarray, rule: str) -> None:
    """Nothing that a router file could hold makes it read beyond its arrays or go in circles."""
    whole = {name: getattr(_forest(), name) for name in ("roots", "column", "threshold")}
    whole |= {name: getattr(_forest(), name) for name in ("children", "value", "d")}
    with pytest.raises(InputError, match=rule):
        Forest(**{**whole, field: value})


def test_contributions_add_up() -> None:
    """They and the mean of all leaves are the prediction; a column never asked adds nothing."""
    forest = _forest()
    row = [2.1, 0.6]
    parts = forest.contributions(row)
    # first tree: mean of three leaves, right of column 1, right of column 0
    start = np.mean([[0.25, 1.0], [0.5, 0.0], [0.75, 0.5]], axis=0)
    right = np.mean([[0.5, 0.0], [0.75, 0.5]], axis=0)
    assert parts[1] == pytest.approx((right - start) / 2)
    assert parts[0] == pytest.approx((np.array([0.75, 0.5]) - right) / 2)
    base = (start + np.array([0.0, 0.5])) / 2
    assert base + parts.sum(axis=0) == pytest.approx(forest.predict_one(row))
