"""The softmax top-k gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.testing.gates import GateCase, check

CASE = GateCase(SoftmaxTopK(k=2))


def _decide(recipe: SoftmaxTopK):
    """One token whose probabilities are 0.1, 0.2, 0.6 and 0.1."""
    gate = recipe.build(1, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(torch.tensor([[1.0], [2.0], [6.0], [1.0]]).log())
    return gate(torch.ones(1, 1))


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [("renormalised", [0.75, 0.25]), ("plain", [0.6, 0.2]), ("after", [0.75, 0.25])],
)
def test_what_the_chosen_weigh_by_hand(weights: str, wanted: list[float]) -> None:
    """Of 0.1, 0.2, 0.6, 0.1 the best two: as they are 0.6 and 0.2, brought to one 6/8 and 2/8."""
    decision = _decide(SoftmaxTopK(k=2, weights=weights))
    assert decision.experts.tolist() == [[2, 1]]
    assert decision.weights[0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(("k", "weights"), [(1, "plain"), (3, "after")])
def test_the_other_weights_keep_the_contract_too(k: int, weights: str) -> None:
    """Every choice of weights is run through it."""
    assert not check(GateCase(SoftmaxTopK(k=k, weights=weights))).failures


def test_scores_are_probabilities_or_logits() -> None:
    """Before the choice the scores sum to one over all experts; after it they stay logits."""
    assert _decide(SoftmaxTopK(k=2)).scores.sum().item() == pytest.approx(1.0)
    after = _decide(SoftmaxTopK(k=2, weights="after"))
    assert torch.equal(after.scores, after.logits)


def test_scale_multiplies() -> None:
    """Weights of 0.6 and 0.2 at scale 2.5 are 1.5 and 0.5."""
    decision = _decide(SoftmaxTopK(k=2, weights="plain", scale=2.5))
    assert decision.weights[0].tolist() == pytest.approx([1.5, 0.5])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "softmax_topk.k must be a whole number >= 1; got 0"),
        ({"weights": "before"}, "softmax_topk.weights must be 'renormalised', 'plain' or 'after'"),
        ({"scale": 0.0}, "softmax_topk.scale must be > 0; got 0.0"),
        ({"scale": float("nan")}, "softmax_topk.scale must be a finite number"),
        ({"weights": "after", "scale": 2.0}, "softmax_topk.scale must be 1 where weights is"),
        ({"k": 1}, "softmax_topk.weights must be 'plain' where k is 1"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        SoftmaxTopK(**fields)


def test_more_experts_a_token_than_there_are() -> None:
    """The refusal names both numbers."""
    with pytest.raises(InputError, match=r"k must be a whole number in \[1, 4\]; got 5"):
        SoftmaxTopK(k=5).build(2, 4, generator=torch.Generator())
