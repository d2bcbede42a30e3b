"""Labels of a new model put beside a table."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.bench.joining import merge_labels
from turnout.core import InputError, Outcomes


def _table(inputs: list[str], **columns: list[float]) -> Outcomes:
    quality = np.array(list(columns.values())).T
    return Outcomes(inputs=inputs, names=tuple(columns), quality=quality, cost=quality + 1)


def test_labels_find_their_prompts() -> None:
    """A label goes to the row of its prompt, and a prompt that is not there gets a row."""
    table = _table(["p", "q", "r"], a=[0.1, 0.2, 0.3], b=[0.4, 0.5, 0.6])
    merged, added = merge_labels(table, _table(["s", "q"], new=[1.0, 0.0]), "new")
    assert merged.inputs == ("p", "q", "r", "s")
    assert merged.names == ("a", "b", "new")
    nan = np.nan
    want = [[0.1, 0.4, nan], [0.2, 0.5, 0.0], [0.3, 0.6, nan], [nan, nan, 1.0]]
    assert merged.quality == pytest.approx(np.array(want), nan_ok=True)
    assert merged.cost == pytest.approx(np.array(want) + 1, nan_ok=True)
    assert added == 1


def test_a_prompt_that_repeats_takes_its_labels_in_order() -> None:
    """The first label goes to the first row of a prompt; those left over become rows."""
    table = _table(["p", "p"], a=[0.1, 0.2])
    merged, added = merge_labels(table, _table(["p", "p", "p"], new=[0.3, 0.4, 0.5]), "new")
    want = [[0.1, 0.3], [0.2, 0.4], [np.nan, 0.5]]
    assert merged.quality == pytest.approx(np.array(want), nan_ok=True)
    assert added == 1


def test_labels_the_table_has_are_kept() -> None:
    """A cell that is told already is not written over; blanks among the labels are no labels."""
    table = _table(["p", "q"], new=[0.9, np.nan], a=[0.1, 0.2])
    labels = _table(["p", "q", "r"], new=[0.0, 0.5, np.nan], other=[1.0, 1.0, 1.0])
    merged, added = merge_labels(table, labels, "new")
    assert merged.names == ("a", "new")
    want = [[0.1, 0.9], [0.2, 0.5], [np.nan, 0.0]]
    assert merged.quality == pytest.approx(np.array(want), nan_ok=True)
    assert added == 1


def test_what_cannot_be_merged_is_refused() -> None:
    """No such column, and inputs that are no texts."""
    table = _table(["p"], a=[0.1])
    with pytest.raises(InputError, match=r"the labels must hold a column 'new'.*It holds a"):
        merge_labels(table, table, "new")
    arrays = Outcomes(
        inputs=np.ones((1, 2)), names=("new",), quality=np.ones((1, 1)), cost=np.ones((1, 1))
    )
    with pytest.raises(InputError, match="the labels must hold texts"):
        merge_labels(table, arrays, "new")
    with pytest.raises(InputError, match="the table must hold texts"):
        merge_labels(arrays, table, "a")
