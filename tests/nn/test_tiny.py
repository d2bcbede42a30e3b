"""The tiny mixture-of-experts language model."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.expert_choice import ExpertChoice
from turnout.experts.random import Random
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.nn.gates import RouteContext
from turnout.nn.tiny import TinyConfig, TinyLM

SMALL = TinyConfig(vocabulary=11, d=16, l=2, h=2, f=8, e=4, context=8)
TOP2 = SoftmaxTopK(k=2)


def _model(gate: object, config: TinyConfig = SMALL, seed: int = 0) -> TinyLM:
    return TinyLM(config, gate, generator=torch.Generator().manual_seed(seed))


def _tokens(b: int = 3, s: int = 8) -> torch.Tensor:
    return torch.randint(11, (b, s), generator=torch.Generator().manual_seed(1))


def test_shapes_and_log() -> None:
    """Logits for every position, one decision a layer, in order, for all tokens."""
    logits, log = _model(TOP2)(_tokens())
    assert logits.shape == (3, 8, 11)
    assert [entry.layer for entry in log] == [0, 1]
    assert {entry.decision.t for entry in log} == {24}


def test_no_position_sees_a_later_one() -> None:
    """Changing the last token changes no logit before it; without causality it changes all."""
    first, other = _tokens(), _tokens()
    other[:, -1] = (other[:, -1] + 1) % 11
    model = _model(TOP2).eval()
    assert torch.allclose(model(first)[0][:, :-1], model(other)[0][:, :-1], atol=1e-6)
    both = _model(TOP2, TinyConfig(vocabulary=11, d=16, h=2, f=8, e=4, context=8, causal=False))
    assert not torch.allclose(both(first)[0][:, 0], both(other)[0][:, 0], atol=1e-6)


def test_gates_that_look_ahead_are_refused_in_a_causal_model() -> None:
    """The causality of the model reaches every gate."""
    with pytest.raises(InputError, match="causal-safe"):
        _model(ExpertChoice())(_tokens())


def test_the_generator_decides_everything() -> None:
    """One generator one model; the global one is not touched."""
    state = torch.get_rng_state()
    one, two, other = _model(TOP2), _model(TOP2), _model(TOP2, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one(_tokens())[0], two(_tokens())[0])
    assert not torch.equal(one(_tokens())[0], other(_tokens())[0])


def test_noise_comes_from_the_context() -> None:
    """A gate that draws needs a generator, and follows it."""
    model = _model(Random(k=1))
    with pytest.raises(InputError, match=r"context\.generator must be given"):
        model(_tokens())
    made = [
        model(_tokens(), RouteContext(generator=torch.Generator().manual_seed(seed)))[0]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_layers_may_differ() -> None:
    """A dense layer has no gate and leaves no decision; a single recipe serves every layer."""
    _, log = _model([None, TOP2])(_tokens())
    assert [entry.layer for entry in log] == [1]
    dense = _model(None, TinyConfig(vocabulary=11, d=16, h=2, f=8, dense=24, context=8))
    assert dense.blocks[0].feed.down.shape == (16, 24)
    assert len(dense(_tokens())[1]) == 0


def test_every_weight_learns() -> None:
    """A loss on the logits reaches every parameter."""
    model = _model(SoftmaxTopK(k=4, weights="plain"))
    model(_tokens())[0].square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d": 15, "h": 2}, r"tiny\.d must divide by the 2 heads; got 15"),
        ({"vocabulary": 1}, r"tiny\.vocabulary must be a whole number >= 2"),
        ({"e": 0}, r"tiny\.e must be a whole number >= 1"),
        ({"dense": -1}, r"tiny\.dense must be a whole number >= 0"),
    ],
)
def test_wrong_sizes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        TinyConfig(**fields)


def test_wrong_calls_are_refused() -> None:
    """Sequences beyond the context, and gates for another number of layers."""
    with pytest.raises(InputError, match=r"tokens must have shape \(b, s\) with s <= 8"):
        _model(TOP2)(_tokens(s=9))
    with pytest.raises(InputError, match=r"gate must name a gate, or None, for each of the 2"):
        _model([TOP2])
