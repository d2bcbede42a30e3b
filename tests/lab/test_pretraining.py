"""Pretraining tiny models on the standard library."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.expert_choice import ExpertChoice
from turnout.experts.loss_free import LossFree
from turnout.experts.relu import ReluRouting
from turnout.experts.switch import Switch
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, evaluate, pretrain
from turnout.nn.balance import (
    Balancer,
    Losses,
    Sign,
    SparsityController,
    biases_of,
    l1_loss,
    switch_loss,
)
from turnout.nn.tiny import TinyConfig, TinyLM

SMALL = {"d": 16, "l": 2, "h": 2, "f": 8, "e": 4, "context": 16}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """A little of the library, and one thread for tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield standard_library(characters=500)
    torch.set_num_threads(threads)


def _model(gate: object, causal: bool = True) -> TinyLM:
    config = TinyConfig(causal=causal, **SMALL)
    return TinyLM(config, gate, generator=torch.Generator().manual_seed(0))


def _plan(steps: int = 3, **fields: object) -> Plan:
    return Plan(steps=steps, b=4, s=16, **fields)


def test_it_learns(corpus: Corpus) -> None:
    """Held-out loss falls from about ln 128 by more than a nat in sixty steps."""
    model = _model(Switch(capacity=2.0))
    before = evaluate(model, corpus, _plan(), windows=32).loss
    after = pretrain(model, corpus, _plan(60, rate=0.01)).loss
    assert after < before - 1.0


def test_a_run_is_a_function_of_its_seed(corpus: Corpus) -> None:
    """Twice the same figures, gates with noise included; another seed gives others."""
    losses = [pretrain(_model(Switch()), corpus, _plan(seed=seed)).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_loads_drops_and_experts_a_token(corpus: Corpus) -> None:
    """What is dropped and what arrives make up all tokens of all layers."""
    found = pretrain(_model(Switch(capacity=0.5)), corpus, _plan())
    assert len(found.loads) == 2
    assert found.per_token + found.dropped == pytest.approx(1.0)
    assert found.dropped >= 0.5


def test_violation_and_variation_by_hand() -> None:
    """Loads 3, 1 have mean 2 and deviation 1; loads 2, 2 are even: means 0.25 and 0.25."""
    loads = [torch.tensor([3, 1]), torch.tensor([2, 2])]
    found = Pretrained(loss=0.0, loads=loads, dropped=0.0, per_token=1.0, log=None)
    assert found.max_violation == pytest.approx(0.25)
    assert found.variation == pytest.approx(0.25)


def test_extra_terms_and_balancers_are_used(corpus: Corpus) -> None:
    """A balance loss changes the run, a balancer moves its bias, a controller its coefficient."""
    plain = pretrain(_model(Switch()), corpus, _plan()).loss
    losses = Losses({"switch": (switch_loss, 5.0)})
    assert pretrain(_model(Switch()), corpus, _plan(losses=losses)).loss != plain
    model = _model(LossFree(k=2))
    pretrain(model, corpus, _plan(), balancer=Balancer(biases_of(model), Sign(0.1)))
    assert float(model.blocks[0].feed.gate.processors[1].bias.abs().max()) > 0.05
    control = SparsityController(1, 4, first=1e-3)
    pretrain(
        _model(ReluRouting()),
        corpus,
        _plan(),
        sparsity=control,
        each=lambda step, log: l1_loss(next(iter(log)).decision) * 1e-3,
    )
    assert float(control.coefficient) != pytest.approx(1e-3)


def test_filling_gaps_is_for_models_that_see_both_sides(corpus: Corpus) -> None:
    """There expert choice may look ahead; with a causal model the task is refused."""
    found = pretrain(_model(ExpertChoice(), causal=False), corpus, _plan(task="gaps"))
    assert found.max_violation == pytest.approx(0.0)
    with pytest.raises(InputError, match=r"plan\.task must be 'next' for a causal model"):
        pretrain(_model(None), corpus, _plan(task="gaps"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, r"plan\.steps must be a whole number >= 1"),
        ({"rate": 0.0}, r"plan\.rate must be > 0"),
        ({"task": "other"}, r"plan\.task must be 'next' or 'gaps'"),
    ],
)
def test_wrong_plans_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Plan(**fields)
