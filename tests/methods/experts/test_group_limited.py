"""The group-limited gate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.experts.group_limited import GroupLimited
from turnout.testing.gates import GateCase, check

CASE = GateCase(GroupLimited(k=2, groups=4, keep=2, style="v3"))


def _decide(recipe: GroupLimited, rows: torch.Tensor, bias: list[float] | None = None):
    gate = recipe.build(1, len(rows), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(rows.unsqueeze(1))
        if bias is not None:
            gate.processors[1].bias.copy_(torch.tensor(bias))
    return gate(torch.ones(1, 1))


def test_the_other_style_keeps_the_contract_too() -> None:
    """Device-limited routing has no bias and keeps all the rest."""
    report = check(GateCase(GroupLimited(k=2, groups=4, keep=2, style="v2")))
    skipped = [result.check for result in report.results if result.status == "skipped"]
    assert skipped == ["bias_moves_choice_alone"]


def test_a_group_is_rated_by_its_best_by_hand() -> None:
    """Of 0.5, 0.1 | 0.25, 0.15 the first group wins by 0.5; 0.25 is out of reach."""
    rows = torch.tensor([0.5, 0.1, 0.25, 0.15]).log()
    decision = _decide(GroupLimited(k=2, groups=2, keep=1), rows)
    assert decision.experts.tolist() == [[0, 1]]
    assert decision.weights[0].tolist() == pytest.approx([0.5, 0.1])


def test_a_group_is_rated_by_its_best_two_by_hand() -> None:
    """Of 0.6, 0.1 | 0.5, 0.3 the second group wins by 0.8; weights 0.5 and 0.3 over 0.8."""
    rows = torch.tensor([0.6, 0.1, 0.5, 0.3]).logit()
    decision = _decide(GroupLimited(k=2, groups=2, keep=1, style="v3"), rows)
    assert decision.experts.tolist() == [[2, 3]]
    assert decision.weights[0].tolist() == pytest.approx([5 / 8, 3 / 8])


def test_the_bias_moves_the_choice_alone_by_hand() -> None:
    """With 0.2 more on expert 1 the first group has 0.9 and wins; weights stay 0.6 and 0.1."""
    rows = torch.tensor([0.6, 0.1, 0.5, 0.3]).logit()
    recipe = GroupLimited(k=2, groups=2, keep=1, style="v3")
    decision = _decide(recipe, rows, bias=[0.0, 0.2, 0.0, 0.0])
    assert decision.experts.tolist() == [[0, 1]]
    assert decision.weights[0].tolist() == pytest.approx([6 / 7, 1 / 7])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    keep=st.integers(1, 4),
    style=st.sampled_from(["v2", "v3"]),
)
def test_no_token_reaches_more_groups_than_it_may(seed: int, keep: int, style: str) -> None:
    """Of 4 groups of 3 experts at most `keep` are touched, whatever the scores."""
    recipe = GroupLimited(k=min(6, 3 * keep), groups=4, keep=keep, style=style)
    gate = recipe.build(8, 12, generator=torch.Generator().manual_seed(seed))
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(seed + 1))
    groups = gate(x).experts // 3
    assert max(len(set(row)) for row in groups.tolist()) <= keep


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "group_limited.k must be a whole number >= 1"),
        ({"groups": 0}, "group_limited.groups must be a whole number >= 1"),
        ({"keep": 9}, r"group_limited.keep must be a whole number in \[1, 8\]; got 9"),
        ({"style": "v4"}, "group_limited.style must be 'v2' or 'v3'"),
        ({"scale": 0.0}, "group_limited.scale must be > 0"),
        ({"k": 1, "style": "v3"}, "group_limited.k must be >= 2 in style 'v3'"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        GroupLimited(**fields)


@pytest.mark.parametrize(
    ("fields", "e", "message"),
    [
        ({"groups": 3}, 8, "groups must divide 8 experts into groups of 1 or more; got 3"),
        ({"groups": 8, "style": "v3"}, 8, "groups must divide 8 experts into groups of 2 or more"),
        ({"k": 5, "groups": 4, "keep": 2}, 8, r"k must lie in \[1, 4\], what 2 groups of 2 hold"),
    ],
)
def test_experts_that_do_not_fit_are_refused(fields: dict, e: int, message: str) -> None:
    """At building, before any token is routed."""
    with pytest.raises(InputError, match=message):
        GroupLimited(**fields | {"keep": fields.get("keep", 1)}).build(
            2, e, generator=torch.Generator()
        )
