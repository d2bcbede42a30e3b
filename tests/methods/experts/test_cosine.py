"""The cosine gate."""

from __future__ import annotations

import math

import pytest
import torch

from turnout.core import InputError
from turnout.experts.cosine import Cosine
from turnout.testing.gates import GateCase

CASE = GateCase(Cosine(k=1))


def _gate(temperature: float = 0.5, floor: float = 0.01):
    """Two experts along the axes of the plane, the projection left out."""
    recipe = Cosine(width=2, temperature=temperature, floor=floor)
    gate = recipe.build(2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.project.copy_(torch.eye(2))
        gate.scorer.vectors.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.2]]))
    return gate


def test_cosines_by_hand() -> None:
    """(3, 4) has cosines 0.6 and 0.8; over tau 0.5 they differ by 0.4: 1 / (1 + exp(-0.4))."""
    decision = _gate()(torch.tensor([[3.0, 4.0]]))
    assert decision.logits[0].tolist() == pytest.approx([1.2, 1.6])
    assert decision.experts.tolist() == [[1]]
    assert decision.weights[0, 0].item() == pytest.approx(1 / (1 + math.exp(-0.4)))


def test_length_does_not_matter() -> None:
    """A token and a hundred times the token are routed and weighed alike."""
    x = torch.tensor([[3.0, 4.0], [300.0, 400.0]])
    decision = _gate()(x)
    assert decision.weights[0].tolist() == pytest.approx(decision.weights[1].tolist())


def test_temperature_stops_at_the_floor() -> None:
    """However low the learned temperature is, logits are cosines over the floor at most."""
    gate = _gate(floor=0.1)
    with torch.no_grad():
        gate.scorer.log_temperature.fill_(-50.0)
    assert gate(torch.tensor([[1.0, 0.0]])).logits[0].tolist() == pytest.approx([10.0, 0.0])


@pytest.mark.parametrize(("e", "width"), [(8, 4), (2, 2)])
def test_width_is_half_the_experts(e: int, width: int) -> None:
    """As in the paper, and two at least."""
    gate = Cosine().build(16, e, generator=torch.Generator().manual_seed(0))
    assert gate.scorer.vectors.shape == (e, width)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "cosine.k must be a whole number >= 1; got 0"),
        ({"width": -1}, "cosine.width must be a whole number >= 0"),
        ({"temperature": 0.0}, r"cosine.floor must lie in \(0, temperature\]"),
        ({"floor": 0.0}, r"cosine.floor must lie in \(0, temperature\]"),
        ({"floor": 1.0}, r"cosine.floor must lie in \(0, temperature\]"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Cosine(**fields)
