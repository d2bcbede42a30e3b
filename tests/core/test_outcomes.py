"""Outcomes: what it refuses, and what it answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError, Outcomes

NAN = np.nan


def make(**changes):
    fields = {
        "inputs": ["one", "two"],
        "names": ["a", "b"],
        "quality": [[0.0, 1.0], [0.5, NAN]],
        "cost": [[1.0, 2.0], [3.0, NAN]],
    }
    return Outcomes(**(fields | changes))


REFUSED = [
    ({"inputs": "one text"}, "outcomes.inputs", "be a sequence"),
    ({"inputs": ["one", 2]}, "outcomes.inputs[1]", "hold strings"),
    (
        {"inputs": [], "quality": np.empty((0, 2)), "cost": np.empty((0, 2))},
        "outcomes.inputs",
        "row",
    ),
    ({"inputs": np.array([[1.0], [NAN]])}, "outcomes.inputs[1, 0]", "not be NaN"),
    ({"names": ["a", "a"]}, "outcomes.names", "be unique"),
    ({"quality": [[0.0, 1.0]]}, "outcomes.quality", "shape (2, 2)"),
    ({"quality": [[0.0, 1.5], [0.5, 0.5]]}, "outcomes.quality[0, 1]", "in [0, 1]"),
    ({"quality": [[-0.1, 1.0], [0.5, 0.5]]}, "outcomes.quality[0, 0]", "in [0, 1]"),
    ({"quality": [[0.0, np.inf], [0.5, 0.5]]}, "outcomes.quality[0, 1]", "finite"),
    ({"quality": [[0.0, NAN], [0.5, NAN]]}, "outcomes.quality of 'b'", "seen in at least one row"),
    ({"cost": [[1.0, -2.0], [3.0, 1.0]]}, "outcomes.cost[0, 1]", ">= 0"),
    ({"cost": [[1.0, np.inf], [3.0, 1.0]]}, "outcomes.cost[0, 1]", "finite"),
    ({"latency": [[1.0, -1.0], [1.0, 1.0]]}, "outcomes.latency[0, 1]", ">= 0"),
    ({"propensity": [[0.0, 1.0], [0.5, 0.5]]}, "outcomes.propensity[0, 0]", "in ["),
    ({"propensity": [[1.1, 1.0], [0.5, 0.5]]}, "outcomes.propensity[0, 0]", "in ["),
    ({"group": ["x"]}, "outcomes.group", "hold 2 labels"),
    ({"answers": np.array([["x", "y"]], dtype=object)}, "outcomes.answers", "shape (2, 2)"),
]


@pytest.mark.parametrize(("changes", "field", "rule"), REFUSED)
def test_refuses_by_name(changes, field, rule):
    """Every broken rule is refused with the field, the rule and a next step."""
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert caught.value.field == field
    assert rule in caught.value.rule
    assert caught.value.hint


def test_means_skip_what_was_never_seen():
    """NaN cells count neither as zero nor as a row; a cost never seen at all is zero."""
    table = make(cost=[[1.0, NAN], [3.0, NAN]])
    np.testing.assert_allclose(table.mean_quality(), [0.25, 1.0])
    np.testing.assert_allclose(table.mean_cost(), [2.0, 0.0])
    assert table.seen.tolist() == [[True, True], [True, False]]
    assert table.pool().usd_per_item.tolist() == [2.0, 0.0]


def test_take_by_index_and_by_mask():
    """Rows may be taken by index, repeated, or by mask, with everything that belongs to them."""
    table = make(group=["g", "h"], latency=[[1.0, 1.0], [2.0, 2.0]])
    twice = table.take([1, 1, 0])
    assert twice.inputs == ("two", "two", "one")
    assert twice.group == ("h", "h", "g")
    assert twice.latency[:, 0].tolist() == [2.0, 2.0, 1.0]
    masked = table.take(np.array([True, False]))
    assert masked.inputs == ("one",)


def test_select_reorders_columns():
    """Columns are selected by name, in the order asked for; unknown names are refused."""
    table = make()
    assert table.select(["b", "a"]).quality[0].tolist() == [1.0, 0.0]
    with pytest.raises(InputError, match="a, b"):
        table.select(["c"])


def test_vectors_are_inputs_too():
    """Inputs may be an array (n, d); rows of it are taken like texts."""
    table = make(inputs=np.array([[1.0, 2.0], [3.0, 4.0]]), quality=np.full((2, 2), 0.5))
    assert table.n == 2
    assert table.take([1]).inputs.tolist() == [[3.0, 4.0]]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 1), st.integers(0, 1), st.sampled_from(["quality", "cost", "inputs", "names"])
)
def test_fingerprint_sees_every_cell(row, column, what):
    """Changing any input, name, quality or cost changes the fingerprint; nothing else does."""
    table = make(quality=[[0.0, 1.0], [0.5, 0.25]], cost=[[1.0, 2.0], [3.0, 4.0]])
    other = make(quality=table.quality.copy(), cost=table.cost.copy(), group=["x", "y"])
    assert other.fingerprint() == table.fingerprint()
    changed = {"quality": table.quality.copy(), "cost": table.cost.copy()}
    if what in changed:
        changed[what][row, column] *= 0.5
        changed[what][row, column] += 0.0625
    elif what == "inputs":
        changed["inputs"] = ["one!", "two"] if row == 0 else ["one", "two!"]
    else:
        changed["names"] = ["a", "c"] if column else ["c", "b"]
    assert make(**changed).fingerprint() != table.fingerprint()


def test_fingerprint_keeps_texts_apart():
    """Moving a character from one text to the next is another table."""
    left = make(inputs=["ab", "c"]).fingerprint()
    assert left != make(inputs=["a", "bc"]).fingerprint()


def test_inputs_are_not_mutated_and_arrays_are_read_only():
    """The caller's arrays stay as they were; the table's cannot be written to."""
    quality = np.array([[0.0, 1.0], [0.5, 0.5]])
    table = make(quality=quality)
    with pytest.raises(ValueError, match="read-only"):
        table.quality[0, 0] = 1.0
    assert quality.flags.writeable
