"""The expert-choice gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.expert_choice import ExpertChoice
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(ExpertChoice(factor=2.0), capacity=2.0)


def _gate(factor: float, probabilities: list[list[float]]):
    """A gate whose t-th unit token has the t-th row of probabilities."""
    rows = torch.tensor(probabilities)
    t, e = rows.shape
    gate = ExpertChoice(factor=factor).build(t, e, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(rows.log().t())
    return gate, torch.eye(t)


def test_experts_choose_by_hand() -> None:
    """Two places each: expert 0 takes tokens 0 and 1, expert 1 takes 3 and 2; nobody takes more."""
    gate, x = _gate(1.0, [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    decision = gate(x)
    assert decision.experts.tolist() == [[0], [0], [1], [1]]
    assert decision.weights.flatten().tolist() == pytest.approx([0.9, 0.8, 0.4, 0.7])


def test_a_token_may_be_chosen_by_all_or_none_by_hand() -> None:
    """Token 0 leads in columns 0 and 1, token 1 in column 2; token 2 is chosen by nobody."""
    gate, x = _gate(1.0, [[0.45, 0.45, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    decision = gate(x)
    assert decision.experts.tolist() == [[0, 1], [2, 3], [3, 3]]
    assert decision.load().tolist() == [1, 1, 1]


def test_causal_models_refuse_it() -> None:
    """A token's place depends on later tokens; the refusal says how to allow it."""
    gate, x = _gate(1.0, [[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(InputError, match="look_ahead=True"):
        gate(x, RouteContext(causal=True))


@pytest.mark.parametrize(("factor", "message"), [(0.0, "must be > 0"), (-1.0, "finite number >=")])
def test_wrong_recipes_are_refused(factor: float, message: str) -> None:
    """The factor is named."""
    with pytest.raises(InputError, match=f"expert_choice.factor .*{message}"):
        ExpertChoice(factor=factor)
