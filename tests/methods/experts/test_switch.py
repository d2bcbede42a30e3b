"""The Switch gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.switch import Switch
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(Switch(capacity=2.0), capacity=2.0)


def _gate(capacity: float, jitter: float = 0.0):
    """Two experts with probabilities 1/4 and 3/4 for a token of one."""
    recipe = Switch(capacity=capacity, jitter=jitter)
    gate = recipe.build(1, 2, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([[1.0], [3.0]]).log()
    with torch.no_grad():
        (gate.scorer.inner if jitter else gate.scorer).weight.copy_(rows)
    return gate


def test_late_tokens_are_dropped_by_hand() -> None:
    """Five tokens want expert 1, which has room for ceil(1.2 * 5 / 2) = 3."""
    decision = _gate(capacity=1.2)(torch.ones(5, 1))
    assert decision.experts.flatten().tolist() == [1, 1, 1, 2, 2]
    assert decision.weights.flatten().tolist() == pytest.approx([0.75] * 3 + [0.0] * 2)
    assert decision.dropped.flatten().tolist() == [False] * 3 + [True] * 2


def test_masked_tokens_take_no_room_by_hand() -> None:
    """Of five tokens two are real: one place for each of the two at factor 2, and both stay."""
    mask = torch.tensor([False, True, False, True, False])
    decision = _gate(capacity=2.0)(torch.ones(5, 1), RouteContext(mask=mask))
    assert decision.experts.flatten().tolist() == [2, 1, 2, 1, 2]


def test_jitter_is_small_and_in_training_only() -> None:
    """Logits move by at most the jitter's share of themselves; in evaluation they stay."""
    gate = _gate(capacity=2.0, jitter=0.1)
    x = torch.ones(4000, 1)
    plain = gate.eval()(x).logits
    context = RouteContext(generator=torch.Generator().manual_seed(1))
    ratio = gate.train()(x, context).logits[:, 1] / plain[:, 1]
    assert 0.9 <= ratio.min().item() < 0.901
    assert 1.099 < ratio.max().item() <= 1.1
    assert torch.equal(gate.eval()(x).logits, plain)


def test_jitter_draws_from_the_context_alone() -> None:
    """Without a generator a training pass with jitter is refused; without jitter it goes."""
    with pytest.raises(InputError, match=r"context.generator must be given: input jitter draws"):
        _gate(capacity=2.0, jitter=0.1).train()(torch.ones(1, 1))
    _gate(capacity=2.0).train()(torch.ones(1, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"capacity": 0.0}, "switch.capacity must be > 0; got 0.0"),
        ({"capacity": -1.0}, "switch.capacity must be a finite number >= 0"),
        ({"jitter": 1.0}, r"switch.jitter must lie in \[0, 1\)"),
        ({"jitter": -0.1}, "switch.jitter must be a finite number >= 0"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Switch(**fields)
