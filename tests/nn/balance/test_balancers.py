"""Balancers of a bias, and the controller of the L1 coefficient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from turnout.core import InputError
from turnout.nn.balance import (
    Balancer,
    BiasRule,
    BiasTarget,
    Proportional,
    Sign,
    SparsityController,
    biases_of,
)
from turnout.nn.gates import (
    Bias,
    Decision,
    Gate,
    LinearScorer,
    Plain,
    Positive,
    Relu,
    RouteContext,
    RouteLog,
    Softmax,
    TopK,
)


def _log(load: list[int], *, layer: int = 0, mask: torch.Tensor | None = None) -> RouteLog:
    """A pass in which the experts received these loads, one expert a token."""
    experts = torch.repeat_interleave(torch.arange(len(load)), torch.tensor(load)).unsqueeze(1)
    decision = Decision(experts=experts, weights=torch.ones(experts.shape), e=len(load), mask=mask)
    log = RouteLog()
    log.add(decision, RouteContext(layer=layer))
    return log


def test_sign_by_hand() -> None:
    """Overloaded falls, idle rises, even stays: mean 2 of 4, 2, 0."""
    moved = Sign(0.5)(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([4, 2, 0]))
    assert moved.tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(("power", "step"), [(0.0, 0.4), (0.5, 0.2), (1.0, 0.1)])
def test_proportional_by_hand(power: float, step: float) -> None:
    """At the fourth update the step is rate, rate / 2 or rate / 4."""
    moved = Proportional(0.4, power=power)(torch.zeros(3), torch.tensor([4, 2, 0]), 4)
    assert moved.tolist() == pytest.approx([-step, 0.0, step])


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12), st.integers(1, 50))
def test_rules_keep_even_loads_and_order(load: list[int], n: int) -> None:
    """No rule moves on an even or empty load, and none raises the more loaded above the less."""
    counts = torch.tensor(load)
    for rule in (Sign(0.1), Proportional(0.1), Proportional(0.1, power=1.0)):
        assert isinstance(rule, BiasRule)
        still = rule(torch.zeros(len(load)), torch.full_like(counts, load[0]), n)
        assert torch.equal(still, torch.zeros(len(load)))
        moved = rule(torch.zeros(len(load)), counts, n)
        order = counts.argsort(stable=True)
        assert bool((moved[order].diff() <= 1e-6).all())


def test_micro_batches_are_summed_and_masked_tokens_left_out() -> None:
    """Loads 3, 1 and 0, 2 make 3, 3: nothing moves; padding on expert 0 changes nothing."""
    bias = Bias(2)
    balancer = Balancer({0: bias}, Sign(0.1))
    balancer.observe(_log([3, 1]))
    padding = torch.tensor([False, False, False, True, True])
    balancer.observe(_log([3, 2], mask=padding))
    told = balancer.step()[0]
    assert told.pairs == 6
    assert told.max_over_mean == 1.0
    assert bias.bias.tolist() == [0.0, 0.0]


def test_counting_starts_afresh_and_updates_are_numbered() -> None:
    """Every step sees its own load, and the second of 1/n is half the first."""
    bias = Bias(2)
    balancer = Balancer({0: bias}, Proportional(0.4, power=1.0))
    balancer.observe(_log([4, 0]))
    balancer.step()
    assert bias.bias.tolist() == pytest.approx([-0.4, 0.4])
    balancer.observe(_log([4, 0]))
    balancer.step()
    assert bias.bias.tolist() == pytest.approx([-0.6, 0.6])
    balancer.step()  # nothing was seen
    assert bias.bias.tolist() == pytest.approx([-0.6, 0.6])


def test_frozen_in_evaluation() -> None:
    """Neither the balancer's nor the owner's evaluation counts or moves."""
    for part in ("balancer", "bias"):
        bias = Bias(2)
        balancer = Balancer({0: bias}, Sign(0.1))
        {"balancer": balancer, "bias": bias}[part].eval()
        balancer.observe(_log([4, 0]))
        assert balancer.step() == {}
        balancer.train()
        bias.train()
        assert math.isnan(balancer.step()[0].cv)
        assert bias.bias.tolist() == [0.0, 0.0]


def test_low_precision_biases_are_moved_in_float32() -> None:
    """A hundred steps of 0.001 move a bfloat16 bias of 1 by 0.1; each alone would vanish."""
    router = nn.Module()
    router.register_buffer("e_score_correction_bias", torch.ones(2, dtype=torch.bfloat16))
    balancer = Balancer({5: BiasTarget(router, "e_score_correction_bias")}, Sign(1e-3))
    for _ in range(100):
        balancer.observe(_log([4, 0], layer=5))
        balancer.step()
    moved = router.e_score_correction_bias
    assert moved.dtype == torch.bfloat16
    assert moved.tolist() == pytest.approx([0.9, 1.1], abs=4e-3)


def test_null_columns_stay() -> None:
    """A bias with a column for a null expert is moved on the real ones alone."""
    gate = Gate(
        LinearScorer(4, 2, nulls=1, generator=torch.Generator().manual_seed(0)),
        TopK(1),
        Plain(),
        processors=[Softmax(), Bias(3)],
        e=2,
    )
    layer = nn.Module()
    layer.gate, layer.layer = gate, 7
    targets = biases_of(nn.ModuleList([layer]))
    balancer = Balancer(targets, Sign(0.1))
    assert balancer.layers == (7,)
    balancer.observe(_log([4, 0], layer=7))
    balancer.observe(_log([4, 0], layer=1))  # has no bias
    balancer.step()
    assert targets[7].tensor.tolist() == pytest.approx([-0.1, 0.1, 0.0])


def test_dropped_slots_are_reported() -> None:
    """The report tells the share that was dropped."""
    decision = Decision(
        experts=torch.tensor([[0], [0], [0], [1]]), weights=torch.ones(4, 1), e=2
    ).limited(1)
    log = RouteLog()
    log.add(decision, RouteContext())
    balancer = Balancer({0: Bias(2)}, Sign())
    balancer.observe(log)
    assert balancer.step()[0].dropped == pytest.approx(0.5)


def test_state_survives_saving() -> None:
    """Counts and the number of updates come back, the bias lies with its owner."""
    first = Balancer({0: Bias(2)}, Proportional(0.4, power=1.0))
    first.observe(_log([4, 0]))
    first.step()
    first.observe(_log([3, 1]))
    bias = Bias(2)
    second = Balancer({0: bias}, Proportional(0.4, power=1.0))
    second.load_state_dict(first.state_dict())
    second.step()
    assert bias.bias.tolist() == pytest.approx([-0.1, 0.1])
    assert set(first.state_dict()) == {"load_0", "updates"}


@pytest.mark.parametrize(
    ("rule", "within"),
    [
        (Sign(1e-3), 0.25),
        (Proportional(1e-3), 0.01),
        (Proportional(0.02, power=0.5), 0.01),
        (Proportional(0.1, power=1.0), 0.2),
    ],
)
def test_skewed_scores_come_out_even(rule: BiasRule, within: float) -> None:
    """Fixed scores with a tilt: overload falls from over 150 % to near nothing."""
    generator = torch.Generator().manual_seed(0)
    tilt = torch.linspace(1.5, -1.5, 16)
    scores = (torch.randn(1024, 16, generator=generator) + tilt).softmax(dim=1)
    bias = Bias(16)
    balancer = Balancer({0: bias}, rule)

    def load() -> torch.Tensor:
        return (scores + bias.bias).topk(2, dim=1).indices.reshape(-1).bincount(minlength=16)

    balancer.count(0, load())
    before = balancer.step()[0].max_violation
    for _ in range(600):
        balancer.count(0, load())
        balancer.step()
    balancer.count(0, load())
    assert before > 1.5
    assert balancer.step()[0].max_violation < within


def test_sparsity_controller_by_hand() -> None:
    """Two of four on, one wanted: the coefficient grows by the factor; then it shrinks."""
    controller = SparsityController(1, 4, first=1.0, factor=1.5)
    log = RouteLog()
    dense = Decision(experts=torch.tensor([[0, 1], [2, 3]]), weights=torch.ones(2, 2), e=4)
    log.add(dense, RouteContext())
    controller.observe(log)
    assert controller.step() == pytest.approx(0.5)
    assert float(controller.coefficient) == pytest.approx(1.5)
    none = Decision(experts=torch.tensor([[4], [0]]), weights=torch.zeros(2, 1), e=4)
    log = RouteLog()
    log.add(none, RouteContext())
    controller.observe(log)
    assert controller.step() == pytest.approx(7 / 8)
    assert float(controller.coefficient) == pytest.approx(1.0)
    one = Decision(experts=torch.tensor([[3], [0]]), weights=torch.zeros(2, 1), e=4)
    log = RouteLog()
    log.add(one, RouteContext())
    controller.observe(log)
    controller.step()  # exactly what is wanted
    assert float(controller.coefficient) == pytest.approx(1.0)
    assert math.isnan(controller.step())
    controller.eval()
    controller.observe(log)
    assert math.isnan(controller.step())


def test_a_relu_gate_is_driven_to_its_number_of_experts() -> None:
    """Starting from half of 8 on, the controller brings a gate near 2 a token."""
    from turnout.nn.balance import l1_loss

    generator = torch.Generator().manual_seed(0)
    gate = Gate(
        LinearScorer(16, 8, bias=True, generator=generator),
        Positive(),
        Plain(),
        processors=[Relu()],
        e=8,
    )
    controller = SparsityController(2, 8, first=1e-3)
    x = torch.randn(128, 16, generator=generator)
    sparsity = []
    for _ in range(150):
        log = RouteLog()
        decision = gate(x)
        log.add(decision, RouteContext())
        # What holds the gate open is a pull of all weights towards one.
        fit = (decision.dense() - 1.0).square().mean()
        loss = fit + controller.coefficient * l1_loss(decision)
        parameters = list(gate.parameters())
        with torch.no_grad():
            for parameter, slope in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter -= 0.5 * slope
        controller.observe(log)
        sparsity.append(controller.step())
    assert sparsity[0] < 0.6
    assert sum(sparsity[-50:]) / 50 == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: Balancer({}, Sign()), "targets"),
        (lambda: BiasTarget(nn.Linear(2, 2), "weight"), "target 'weight'"),
        (lambda: BiasTarget(Bias(2), "offset"), "target 'offset'"),
        (lambda: BiasTarget(Bias(2), e=3), "target e"),
        (lambda: Sign(0.0), "rate"),
        (lambda: Proportional(-1.0), "rate"),
        (lambda: Proportional(1.0, power=2.0), "power"),
        (lambda: Proportional()(torch.zeros(2), torch.ones(2), 0), "n"),
        (lambda: Balancer({0: Bias(2)}, Sign()).observe(_log([1, 1, 1])), "load of layer 0"),
        (lambda: Balancer({0: Bias(2)}, Sign()).count(1, torch.ones(2)), "layer"),
        (lambda: Balancer({0: Bias(2)}, Sign()).count(0, torch.ones(2), dropped=-1), "dropped"),
        (lambda: SparsityController(0, 4), "k"),
        (lambda: SparsityController(5, 4), "k"),
        (lambda: SparsityController(1, 4, factor=1.0), "factor"),
        (lambda: SparsityController(1, 4, first=0.0), "first"),
        (lambda: SparsityController(1, 4).observe(_log([1, 1])), "log, layer 0,"),
    ],
)
def test_refusals(call: object, field: str) -> None:
    """What cannot be moved is refused by name."""
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field


def test_two_biases_of_one_number_are_refused() -> None:
    """Layers must be told apart."""
    layers = nn.ModuleList()
    for _ in range(2):
        layer = nn.Module()
        layer.gate = Gate(LinearScorer(2, 2), TopK(1), Plain(), processors=[Bias(2)], e=2)
        layer.layer = 0
        layers.append(layer)
    with pytest.raises(InputError, match="one bias a layer"):
        biases_of(layers)
