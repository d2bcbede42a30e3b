"""The soft gate."""

from __future__ import annotations

import math

import pytest
import torch

from turnout.core import InputError
from turnout.experts.soft import Soft
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(Soft(slots=2))


def _gate():
    """Two experts of one slot each along the axes of the plane, scale 1."""
    gate = Soft(slots=1).build(2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.phi.copy_(torch.tensor([[[2.0, 0.0]], [[0.0, 5.0]]]))
    return gate


def test_both_softmaxes_by_hand() -> None:
    """Logits 1 on the diagonal, 0 off it: both softmaxes are e / (e + 1) there."""
    slots = _gate()(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    high = math.e / (math.e + 1)
    wanted = torch.tensor([[high, 1 - high], [1 - high, high]])
    assert torch.allclose(slots.dispatch[0, :, :, 0], wanted)
    assert torch.allclose(slots.combine[0, :, :, 0], wanted)


def test_three_tokens_by_hand() -> None:
    """A third token scores 0.6 and 0.8; its share of slot 0 is exp(0.6) of the column's sum."""
    slots = _gate()(torch.tensor([[3.0, 0.0], [0.0, 4.0], [30.0, 40.0]]))
    total = math.e + 1 + math.exp(0.6)
    assert slots.dispatch[0, 2, 0, 0].item() == pytest.approx(math.exp(0.6) / total)
    assert slots.combine[0, 2, 0, 0].item() == pytest.approx(1 / (1 + math.exp(0.2)))


def test_sequences_are_kept_apart() -> None:
    """Two sequences of two tokens have slots of their own, each summing to one."""
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    slots = _gate()(x, RouteContext(shape=(2, 2)))
    assert slots.dispatch.shape == (2, 2, 2, 1)
    assert torch.allclose(slots.dispatch.sum(dim=1), torch.ones(2, 2, 1))


def test_the_scale_sharpens() -> None:
    """At a large learned scale a slot is its nearest token alone."""
    gate = _gate()
    with torch.no_grad():
        gate.scale.fill_(50.0)
    slots = gate(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    assert torch.allclose(slots.dispatch[0, :, :, 0], torch.eye(2), atol=1e-6)


def test_causal_models_refuse_it() -> None:
    """A slot mixes late tokens with early ones."""
    with pytest.raises(InputError, match="causal-safe"):
        _gate()(torch.ones(2, 2), RouteContext(causal=True))


def test_numbers_that_are_not_finite_are_named_by_token() -> None:
    """The refusal says which token."""
    x = torch.ones(3, 2)
    x[1] = float("nan")
    with pytest.raises(InputError, match=r"logits\[1\] must be finite"):
        _gate()(x)


def test_a_recipe_without_slots_is_refused() -> None:
    """The field is named."""
    with pytest.raises(InputError, match=r"soft\.slots must be a whole number >= 1; got 0"):
        Soft(slots=0)
