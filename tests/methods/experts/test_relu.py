"""The ReLU gate."""

from __future__ import annotations

import pytest
import torch

from turnout.experts.relu import ReluRouting
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(ReluRouting())


def _gate(rows: list[list[float]]):
    wanted = torch.tensor(rows)
    gate = ReluRouting().build(wanted.shape[1], len(wanted), generator=torch.Generator())
    with torch.no_grad():
        gate.scorer.weight.copy_(wanted)
    return gate


def test_what_is_above_zero_works_by_hand() -> None:
    """Scores 0.5, -1, 2: experts 0 and 2, with weights 0.5 and 2; turned round, expert 1 alone."""
    decision = _gate([[0.5], [-1.0], [2.0]])(torch.tensor([[1.0], [-1.0]]))
    assert decision.experts.tolist() == [[0, 2], [1, 3]]
    assert decision.weights.tolist() == [[0.5, 2.0], [1.0, 0.0]]


def test_a_token_may_have_no_expert() -> None:
    """All scores below zero: no expert, no slot at all where no token has one."""
    decision = _gate([[-1.0], [-2.0]])(torch.ones(3, 1))
    assert decision.experts.shape == (3, 0)
    assert decision.load().tolist() == [0, 0]


def test_masked_tokens_do_not_widen_the_decision() -> None:
    """There are as many slots as the real token with most experts fills."""
    mask = torch.tensor([True, False])
    decision = _gate([[0.5], [-1.0], [2.0]])(torch.tensor([[-1.0], [1.0]]), RouteContext(mask=mask))
    assert decision.experts.tolist() == [[1], [3]]


def test_the_penalty_reaches_only_what_is_on() -> None:
    """The L1 penalty of ReMoE lowers the scores above zero and leaves the others alone."""
    gate = _gate([[0.5], [-1.0], [2.0]])
    gate(torch.ones(4, 1)).scores.mean().backward()
    gradient = gate.scorer.weight.grad.flatten().tolist()
    assert gradient == pytest.approx([1 / 3, 0.0, 1 / 3])
