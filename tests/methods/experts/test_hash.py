"""The hash gate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.experts.hash import Hash
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(Hash(vocabulary=32), vocabulary=32)


def _build(recipe: Hash, e: int, seed: int = 0):
    return recipe.build(4, e, generator=torch.Generator().manual_seed(seed))


def test_balanced_assignment_by_hand() -> None:
    """Counts 5, 4, 3, 2 on two experts: 5 | 4, then 3 to the second, 2 to the first."""
    gate = _build(Hash(vocabulary=4, counts=(5.0, 4.0, 3.0, 2.0)), 2)
    decision = gate(torch.zeros(3, 4), RouteContext(tokens=torch.tensor([2, 0, 3])))
    assert decision.experts.tolist() == [[1], [0], [0]]
    assert decision.weights.tolist() == [[1.0]] * 3


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=60), e=st.integers(1, 6))
def test_balanced_loads_differ_by_one_count_at_most(counts: list[int], e: int) -> None:
    """The fullest expert exceeds the emptiest by no more than the greatest count."""
    recipe = Hash(vocabulary=len(counts), counts=tuple(map(float, counts)))
    table = _build(recipe, e).selector.table.flatten()
    loads = torch.zeros(e).scatter_add(0, table, torch.tensor(counts, dtype=torch.float32))
    assert float(loads.max() - loads.min()) <= max(counts)


def test_random_tables_use_every_expert_and_follow_the_generator() -> None:
    """Of 4,000 ids each of 8 experts has 500 or so; another generator gives another table."""
    recipe = Hash(vocabulary=4000)
    table = _build(recipe, 8).selector.table
    assert int(table.flatten().bincount(minlength=8).min()) > 400
    assert torch.equal(table, _build(recipe, 8).selector.table)
    assert not torch.equal(table, _build(recipe, 8, seed=1).selector.table)


def test_ids_are_needed_and_must_be_known() -> None:
    """No ids, and an id outside the table, are refused by name."""
    gate = _build(Hash(vocabulary=4), 2)
    with pytest.raises(InputError, match=r"context.tokens must be given"):
        gate(torch.zeros(1, 4))
    with pytest.raises(InputError, match=r"context.tokens must lie in \[0, 3\]; got 4"):
        gate(torch.zeros(1, 4), RouteContext(tokens=torch.tensor([4])))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": 0}, "hash.vocabulary must be a whole number >= 1; got 0"),
        ({"vocabulary": 3, "counts": (1.0, 2.0)}, r"hash.counts must have shape \(3,\)"),
        ({"vocabulary": 2, "counts": (1.0, -2.0)}, r"hash.counts\[1\] must be a finite number >="),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Hash(**fields)
