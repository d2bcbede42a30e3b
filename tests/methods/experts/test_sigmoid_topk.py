"""The sigmoid top-k gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.sigmoid_topk import SigmoidTopK
from turnout.testing.gates import GateCase, check

CASE = GateCase(SigmoidTopK(k=2))


def _decide(recipe: SigmoidTopK):
    """One token whose affinities are 0.2, 0.6, 0.4 and 0.1."""
    gate = recipe.build(1, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(torch.tensor([[0.2], [0.6], [0.4], [0.1]]).logit())
    return gate(torch.ones(1, 1))


def test_deepseek_v3_by_hand() -> None:
    """Affinities 0.6 and 0.4 sum to one already; at scale 2.5 they are 1.5 and 1."""
    decision = _decide(SigmoidTopK(k=2, scale=2.5))
    assert decision.experts.tolist() == [[1, 2]]
    assert decision.weights[0].tolist() == pytest.approx([1.5, 1.0])


def test_one_expert_keeps_the_contract_too() -> None:
    """The router of Llama 4 is run through it."""
    assert not check(GateCase(SigmoidTopK(k=1, weights="plain"))).failures


def test_three_are_brought_to_one_by_hand() -> None:
    """0.6, 0.4 and 0.2 sum to 1.2: a half, a third and a sixth."""
    decision = _decide(SigmoidTopK(k=3))
    assert decision.weights[0].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6])


def test_llama_4_by_hand() -> None:
    """One expert, worth the sigmoid of its logit."""
    decision = _decide(SigmoidTopK(k=1, weights="plain"))
    assert decision.experts.tolist() == [[1]]
    assert decision.weights[0, 0].item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "sigmoid_topk.k must be a whole number >= 1; got 0"),
        ({"weights": "after"}, "sigmoid_topk.weights must be 'renormalised' or 'plain'"),
        ({"scale": 0.0}, "sigmoid_topk.scale must be > 0; got 0.0"),
        ({"k": 1}, "sigmoid_topk.weights must be 'plain' where k is 1"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        SigmoidTopK(**fields)


def test_more_experts_a_token_than_there_are() -> None:
    """The refusal names both numbers."""
    with pytest.raises(InputError, match=r"k must be a whole number in \[1, 4\]; got 8"):
        SigmoidTopK().build(2, 4, generator=torch.Generator())
