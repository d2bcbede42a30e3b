"""The noisy top-k gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.noisy_topk import NoisyTopK
from turnout.nn.balance import load_loss
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(NoisyTopK(k=2))


def _gate(k: int = 2):
    """Logits ln 1, ln 2, ln 6 for a token of one."""
    gate = NoisyTopK(k=k).build(1, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gate.scorer.weight.copy_(torch.tensor([[1.0], [2.0], [6.0]]).log())
    return gate


def _context(seed: int = 0) -> RouteContext:
    return RouteContext(generator=torch.Generator().manual_seed(seed))


def test_evaluation_by_hand() -> None:
    """Without noise the best two of ln 1, ln 2, ln 6 weigh 6/8 and 2/8."""
    decision = _gate().eval()(torch.ones(1, 1))
    assert decision.experts.tolist() == [[2, 1]]
    assert decision.weights[0].tolist() == pytest.approx([0.75, 0.25])


def test_noise_of_zero_rows_has_size_ln_2() -> None:
    """softplus(0) = ln 2: the noise of a new gate has that deviation in every column."""
    gate = _gate(k=3).train()
    decision = gate(torch.ones(20_000, 1), _context())
    noise = decision.scores - decision.logits
    assert noise.std().item() == pytest.approx(0.6931, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)


def test_the_decision_carries_what_the_load_loss_reads() -> None:
    """In training the size of the noise goes with the decision; in evaluation there is none."""
    gate = NoisyTopK(k=2).build(4, 8, generator=torch.Generator().manual_seed(0)).train()
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    decision = gate(x, _context())
    assert decision.state["noise"].tolist()[0] == pytest.approx([0.6931] * 8, rel=1e-3)
    load_loss(decision).backward()
    assert bool(gate.processors[0].weight.grad.any())
    assert "noise" not in gate.eval()(x).state


def test_training_draws_from_the_context_alone() -> None:
    """Without a generator a training pass is refused; evaluation needs none."""
    with pytest.raises(InputError, match=r"context.generator must be given"):
        _gate().train()(torch.ones(1, 1))
    _gate().eval()(torch.ones(1, 1))


@pytest.mark.parametrize(
    ("k", "message"),
    [(0, "noisy_topk.k must be a whole number >= 1"), (1, "noisy_topk.k must be >= 2")],
)
def test_wrong_recipes_are_refused(k: int, message: str) -> None:
    """One expert is refused with the reason."""
    with pytest.raises(InputError, match=message):
        NoisyTopK(k=k)
