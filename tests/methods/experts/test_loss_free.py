"""The gate with a balance bias."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.loss_free import LossFree
from turnout.nn.balance import Balancer, Sign
from turnout.nn.gates import RouteContext, RouteLog
from turnout.testing.gates import GateCase

CASE = GateCase(LossFree(k=2))


def _gate(scores: str = "sigmoid"):
    """Three experts whose sigmoids are 0.6, 0.5 and 0.2 for a token of one."""
    gate = LossFree(k=1, scores=scores).build(1, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(torch.tensor([[0.6], [0.5], [0.2]]).logit())
    return gate


def test_the_bias_chooses_and_does_not_weigh_by_hand() -> None:
    """0.6 against 0.5 + 0.2: expert 1 is chosen and weighs 0.5."""
    gate = _gate()
    gate.processors[1].bias.copy_(torch.tensor([0.0, 0.2, 0.0]))
    decision = gate(torch.ones(1, 1))
    assert decision.experts.tolist() == [[1]]
    assert decision.weights[0, 0].item() == pytest.approx(0.5)


def test_softmax_scores_by_hand() -> None:
    """Odds 1.5, 1 and 0.25 sum to 2.75: the best has 6/11."""
    decision = _gate("softmax")(torch.ones(1, 1))
    assert decision.weights[0, 0].item() == pytest.approx(6 / 11)


def test_a_common_bias_changes_nothing() -> None:
    """Only differences of biases matter."""
    gate = LossFree(k=2).build(8, 6, generator=torch.Generator().manual_seed(0))
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    before = gate(x).experts
    gate.processors[1].bias.add_(3.0)
    assert torch.equal(gate(x).experts, before)


def test_the_balancer_finds_the_bias_and_evens_the_load() -> None:
    """Tokens that nearly all prefer one expert are shared out after some hundred steps."""
    gate = LossFree(k=1).build(4, 4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)) + 1.0
    uneven = int(gate(x).load().max())
    balancer = Balancer({0: gate.processors[1]}, Sign(0.01))
    for _ in range(200):
        log = RouteLog()
        log.add(gate(x), RouteContext())
        balancer.observe(log)
        balancer.step()
    assert uneven > 160
    assert int(gate(x).load().max()) < 120


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "loss_free.k must be a whole number >= 1; got 0"),
        ({"scores": "relu"}, "loss_free.scores must be 'sigmoid' or 'softmax'"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        LossFree(**fields)
