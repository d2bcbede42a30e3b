"""Losses of one decision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.nn import balance
from turnout.nn.gates import (
    Decision,
    Gate,
    LearnedNoise,
    LinearScorer,
    RouteContext,
    Softmax,
    SoftmaxOfChosen,
    TopK,
)

SURE = 40.0


def _decision(rows: list[list[int]], e: int, *, sure: bool = True, **more: object) -> Decision:
    """Tokens on the experts named, with logits that are sure of them, or all even."""
    experts = torch.tensor(rows)
    t, k = experts.shape
    logits = torch.zeros(t, e + 1).scatter(1, experts, SURE)[:, :e]
    weights = (experts < e).float() / k
    return Decision(
        experts=experts,
        weights=weights,
        e=e,
        logits=logits if sure else torch.zeros(t, e),
        **more,  # type: ignore[arg-type]
    )


def _random(t: int, e: int, k: int, seed: int) -> Decision:
    """A softmax top-k decision on random tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(t, e, generator=generator)
    scores = logits.softmax(dim=1)
    weights, experts = scores.topk(k, dim=1)
    return Decision(experts=experts, weights=weights, e=e, logits=logits, scores=scores)


ALL = {
    "switch": balance.switch_loss,
    "sequence": lambda d: balance.sequence_loss(d, segments=torch.zeros(d.t, dtype=torch.int64)),
    "global": balance.global_switch_loss,
    "group": lambda d: balance.group_loss(d, torch.arange(d.e) // 2),
    "communication": lambda d: balance.communication_loss(d, torch.arange(d.e) // 2),
    "importance": balance.importance_loss,
    "load": lambda d: balance.load_loss(d, size=torch.ones_like(d.logits), noisy=d.logits),
    "z": balance.z_loss,
    "entropy": balance.entropy_loss,
    "tsallis": lambda d: balance.entropy_loss(d, order=1.5),
    "l1": balance.l1_loss,
    "l1 balanced": lambda d: balance.l1_loss(d, k=2),
}


@pytest.mark.parametrize(
    ("rows", "by_hand"),
    [
        ([[0, 1], [2, 3]], 1.0),  # even
        ([[0, 1], [0, 1]], 2.0),  # two of four: e / k
        # shares 1/2, 1/4, 1/4, 0; the probabilities are the same: 4 (1/4 + 1/16 + 1/16)
        ([[0, 1], [0, 2]], 1.5),
        # a slot that is none has no vote: shares 2/3, 1/3; probabilities 3/4, 1/4: 4 * 7/12
        ([[0, 1], [0, 4]], 7 / 3),
    ],
)
def test_switch_by_hand(rows: list[list[int]], by_hand: float) -> None:
    """Even is 1, k of e experts alone is e / k, and what lies between is e sum f P."""
    assert float(balance.switch_loss(_decision(rows, 4))) == pytest.approx(by_hand, abs=1e-6)


def test_switch_sees_what_transformers_pools_away() -> None:
    """Eight layers, each collapsed onto its own pair: 8.0 in transformers' unit, where it says 2.

    transformers counts each of the k = 2 slots in full: an even router has 2, a collapsed one 8.
    Its counts are pooled over the layers, where four pairs look like an even load.
    """
    pytest.importorskip("transformers")
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    layers = [_decision([[2 * (n % 4), 2 * (n % 4) + 1]] * 16, 8) for n in range(8)]
    ours = [float(balance.switch_loss(layer)) for layer in layers]
    assert ours == pytest.approx([8 / 2] * 8)
    assert 2 * sum(ours) / 8 == pytest.approx(8.0)
    logits = tuple(layer.logits for layer in layers)
    assert float(load_balancing_loss_func(logits, 8, 2)) == pytest.approx(2.0)
    assert float(load_balancing_loss_func(logits[:1], 8, 2)) == pytest.approx(8.0)
    one = _random(64, 8, 2, seed=0)
    theirs = float(load_balancing_loss_func((one.logits,), 8, 2))
    assert 2 * float(balance.switch_loss(one)) == pytest.approx(theirs, rel=1e-5)


def test_the_decision_used_is_what_counts() -> None:
    """A forced decision changes the loss though the logits are the same."""
    free = _random(32, 8, 2, seed=1)
    forced = replace(free, experts=torch.tensor([[0, 1]]).expand(32, 2).contiguous())
    assert float(balance.switch_loss(forced)) != pytest.approx(float(balance.switch_loss(free)))
    mean = free.scores.mean(dim=0)  # type: ignore[union-attr]
    assert float(balance.switch_loss(forced)) == pytest.approx(8 * float(mean[:2].sum()) / 2)


def test_dropped_slots_have_no_vote() -> None:
    """With room for one token an expert, two thirds of a pile of three are dropped."""
    piled = _decision([[0], [0], [0], [1]], 2).limited(1)
    assert piled.load().tolist() == [1, 1]
    # shares 1/2, 1/2; probabilities 3/4, 1/4: 2 (3/8 + 1/8)
    assert float(balance.switch_loss(piled)) == pytest.approx(1.0)


def test_sequences_are_judged_one_by_one() -> None:
    """Two sequences, each on its own expert: even over the batch, collapsed in each sequence."""
    decision = _decision([[0], [0], [1], [1]], 2)
    assert float(balance.switch_loss(decision)) == pytest.approx(1.0)
    by_shape = balance.sequence_loss(decision, shape=(2, 2))
    by_segment = balance.sequence_loss(decision, segments=torch.tensor([7, 7, 3, 3]))
    assert float(by_shape) == pytest.approx(2.0)
    assert float(by_segment) == pytest.approx(2.0)


def test_sequence_loss_is_the_mean_of_switch_losses() -> None:
    """Over ragged sequences, padding left out."""
    decision = _random(12, 4, 2, seed=2)
    mask = torch.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1], dtype=torch.bool)
    whole = balance.sequence_loss(decision.masked(mask), shape=(3, 4))
    parts = []
    for rows in mask.nonzero().squeeze(1).split([3, 2, 4]):
        part = Decision(
            experts=decision.experts[rows],
            weights=decision.weights[rows],
            e=4,
            logits=decision.logits[rows],  # type: ignore[index]
        )
        parts.append(float(balance.switch_loss(part)))
    assert float(whole) == pytest.approx(sum(parts) / 3, rel=1e-5)


def test_a_sequence_of_padding_alone_does_not_count() -> None:
    """The mean is over sequences that have a token."""
    mask = torch.tensor([True, True, False, False])
    decision = _decision([[0], [0], [1], [1]], 2).masked(mask)
    assert float(balance.sequence_loss(decision, shape=(2, 2))) == pytest.approx(2.0)


def test_sigmoid_scores_are_shared_out() -> None:
    """DeepSeek-V3 by hand: scores 0.6, 0.2 become 3/4, 1/4; all on the first: 2 * 3/4."""
    scores = torch.tensor([[0.6, 0.2]])
    decision = Decision(
        experts=torch.tensor([[0]]),
        weights=torch.ones(1, 1),
        e=2,
        logits=scores.logit(),
        scores=scores,
    )
    value = balance.sequence_loss(decision, shape=(1, 1), probabilities=balance.share_of_scores)
    assert float(value) == pytest.approx(1.5)


def test_groups_by_hand() -> None:
    """Shares 1/2, 1/2, 0, 0 in groups of two: f' = 2, 0; P' = 1, 0."""
    decision = _decision([[0, 1], [0, 1]], 4)
    groups = torch.tensor([0, 0, 1, 1])
    assert float(balance.group_loss(decision, groups)) == pytest.approx(2.0)
    assert float(balance.group_loss(decision, torch.tensor([0, 1, 0, 1]))) == pytest.approx(1.0)


def test_a_token_travels_once_to_a_device() -> None:
    """Token 0 has both slots on device 0, token 1 one on each: travels 2 and 1, P'' 3/4, 1/4."""
    decision = _decision([[0, 1], [0, 2]], 4)
    value = balance.communication_loss(decision, torch.tensor([0, 0, 1, 1]))
    assert float(value) == pytest.approx(2 * (2 / 3 * 3 / 4 + 1 / 3 * 1 / 4))


def test_importance_by_hand() -> None:
    """Weights 1 and 3 in all: mean 2, variance 1, so 1/4; one of two alone: 1."""
    decision = Decision(
        experts=torch.tensor([[0, 1], [1, 2]]),
        weights=torch.tensor([[1.0, 2.0], [1.0, 0.0]]),
        e=2,
    )
    assert float(balance.importance_loss(decision)) == pytest.approx(0.25)
    assert float(balance.importance_loss(_decision([[0], [0]], 2))) == pytest.approx(1.0)


def test_smooth_load_by_hand() -> None:
    """Two experts, k = 1: each one's rival is the other's noisy score."""
    clean = torch.tensor([[1.0, 0.0]])
    noisy = torch.tensor([[1.5, 0.5]])
    size = torch.tensor([[0.5, 2.0]])
    chance = balance.smooth_load(clean, noisy, size, 1)
    # Phi((1 - 0.5) / 0.5) = Phi(1), Phi((0 - 1.5) / 2) = Phi(-0.75)
    by_hand = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (1.0, -0.75)]
    assert chance[0].tolist() == pytest.approx(by_hand)


def test_smooth_load_is_the_frequency() -> None:
    """Drawing the noise of one expert again puts it among the k best that often."""
    generator = torch.Generator().manual_seed(3)
    clean = torch.randn(1, 5, generator=generator)
    size = torch.rand(1, 5, generator=generator) + 0.5
    noisy = clean + size * torch.randn(1, 5, generator=generator)
    chance = balance.smooth_load(clean, noisy, size, 2)[0]
    for j in range(5):
        draws = noisy.expand(20000, 5).clone()
        draws[:, j] = clean[0, j] + size[0, j] * torch.randn(20000, generator=generator)
        often = (draws.topk(2, dim=1).indices == j).any(dim=1).float().mean()
        assert float(chance[j]) == pytest.approx(float(often), abs=0.015)


def test_load_loss_reaches_the_gate_and_its_noise() -> None:
    """The smooth load has a gradient where counts have none."""
    generator = torch.Generator().manual_seed(4)
    noise = LearnedNoise(6, 4)
    gate = Gate(
        LinearScorer(6, 4, generator=generator),
        TopK(2),
        SoftmaxOfChosen(),
        processors=[noise],
        e=4,
    )
    x = torch.randn(32, 6, generator=generator)
    decision = gate(x, RouteContext(generator=generator))
    size = torch.nn.functional.softplus(x @ noise.weight.T)
    balance.load_loss(decision, size=size).backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name
    carried = replace(decision, state={"noise": size})
    assert torch.equal(balance.load_loss(carried), balance.load_loss(decision, size=size))


def test_z_by_hand() -> None:
    """Logits 0, 0 have log-sum-exp ln 2; ln 1 and ln 3 have ln 4."""
    decision = _decision([[0], [0]], 2)
    decision = replace(decision, logits=torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]))
    by_hand = (math.log(2) ** 2 + math.log(4) ** 2) / 2
    assert float(balance.z_loss(decision)) == pytest.approx(by_hand)


def test_entropy_by_hand() -> None:
    """Even over 4: ln 4, and 1 - 1/4 for Tsallis of order 2; sure: 0."""
    even = _decision([[0], [1]], 4, sure=False)
    assert float(balance.entropy_loss(even)) == pytest.approx(math.log(4))
    assert float(balance.entropy_loss(even, order=2.0)) == pytest.approx(0.75)
    assert float(balance.entropy_loss(_decision([[0], [1]], 4))) == pytest.approx(0.0, abs=1e-6)


def test_l1_by_hand() -> None:
    """Weights 1, 2 and 3; loads 1 and 2 of two tokens with k = 1: factors 1 and 2."""
    decision = Decision(
        experts=torch.tensor([[0, 1], [1, 2]]),
        weights=torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        e=2,
    )
    assert float(balance.l1_loss(decision)) == pytest.approx(3.0)
    assert float(balance.l1_loss(decision, k=1)) == pytest.approx((1 + 2 * 2 + 2 * 3) / 2)


def test_global_counts_include_earlier_micro_batches() -> None:
    """Two micro-batches, an expert each: alone they are collapsed, together even."""
    first, second = _decision([[0], [0]], 2), _decision([[1], [1]], 2)
    assert float(balance.global_switch_loss(first)) == pytest.approx(2.0)
    value = balance.global_switch_loss(second, earlier=first.load())
    assert float(value) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL)
def test_masked_tokens_change_nothing(name: str) -> None:
    """Padding that holds NaN leaves value and gradient as without it, also if it has experts."""
    real = _random(10, 6, 2, seed=5)
    assert real.logits is not None
    junk = torch.full((4, 6), torch.nan, requires_grad=True)
    mask = torch.tensor([True] * 10 + [False] * 4)

    def padded(logits: torch.Tensor, rows: torch.Tensor) -> Decision:
        extra = junk if len(rows) > 10 else junk[:0]
        full = torch.cat([logits, extra])
        scores = full.softmax(dim=1)
        return Decision(
            experts=real.experts[rows],
            weights=scores.gather(1, real.experts[rows]),
            e=6,
            logits=full,
            scores=scores,
            mask=mask[: len(rows)],
        )

    results = []
    for rows in (torch.arange(10), torch.arange(14) % 10):
        logits = real.logits.clone().requires_grad_()
        value = ALL[name](padded(logits, rows))  # type: ignore[no-untyped-call]
        value.backward()
        results.append((value.detach(), logits.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert torch.isfinite(results[0][0])
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)  # type: ignore[arg-type]
    assert float(results[0][1].abs().sum()) > 0  # type: ignore[union-attr]
    if name not in ("importance", "l1", "l1 balanced"):  # there the gate's own softmax is between
        assert junk.grad is not None
        assert not junk.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_no_token_is_zero_and_low_precision_is_raised(name: str) -> None:
    """Nothing to judge gives 0, and float32 comes out of bfloat16 logits."""
    some = _random(9, 6, 2, seed=6)
    assert some.logits is not None
    empty = some.masked(torch.zeros(9, dtype=torch.bool))
    assert float(ALL[name](empty)) == 0.0  # type: ignore[no-untyped-call]
    low = replace(some, logits=some.logits.bfloat16(), weights=some.weights.bfloat16())
    value = ALL[name](low)  # type: ignore[no-untyped-call]
    assert value.dtype == torch.float32
    assert value.ndim == 0


@settings(deadline=None, max_examples=30)
@given(
    t=st.integers(1, 30),
    e=st.integers(3, 9),
    seed=st.integers(0, 10**6),
    name=st.sampled_from([*ALL]),
)
def test_names_and_order_do_not_matter(t: int, e: int, seed: int, name: str) -> None:
    """Tokens in another order, or experts by other names, give the same loss."""
    decision = _random(t, 2 * e, 2, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    order = torch.randperm(t, generator=generator)
    shuffled = replace(
        decision,
        experts=decision.experts[order],
        weights=decision.weights[order],
        logits=decision.logits[order],  # type: ignore[index]
        scores=decision.scores[order],  # type: ignore[index]
    )
    value = ALL[name](decision)  # type: ignore[no-untyped-call]
    assert torch.allclose(value, ALL[name](shuffled), atol=1e-5, rtol=1e-4)  # type: ignore[no-untyped-call]
    turn = torch.arange(2 * e).roll(2)  # whole pairs move, so that groups of two stay groups
    renamed = replace(
        decision,
        experts=(decision.experts + 2) % (2 * e),
        logits=decision.logits[:, turn],  # type: ignore[index]
        scores=decision.scores[:, turn],  # type: ignore[index]
    )
    assert torch.allclose(value, ALL[name](renamed), atol=1e-5, rtol=1e-4)  # type: ignore[no-untyped-call]


def test_switch_bends_towards_the_idle_expert() -> None:
    """A step against the gradient lowers the logit of the overloaded expert."""
    logits = torch.zeros(4, 2, requires_grad=True)
    decision = Decision(
        experts=torch.zeros(4, 1, dtype=torch.int64), weights=torch.ones(4, 1), e=2, logits=logits
    )
    balance.switch_loss(decision).backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, 0] > 0).all())
    assert bool((logits.grad[:, 1] < 0).all())


def test_null_columns_take_no_part_in_the_balance() -> None:
    """The probabilities are among real experts, however much the nulls have."""
    logits = torch.tensor([[0.0, 0.0, 9.0]])
    decision = Decision(experts=torch.tensor([[0]]), weights=torch.ones(1, 1), e=2, logits=logits)
    assert float(balance.switch_loss(decision)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda d: balance.switch_loss(replace(d, logits=None)), "decision.logits"),
        (lambda d: balance.z_loss(replace(d, logits=None)), "decision.logits"),
        (lambda d: balance.share_of_scores(replace(d, scores=None)), "decision.scores"),
        (lambda d: balance.share_of_scores(replace(d, scores=-d.scores)), "decision.scores"),
        (lambda d: balance.sequence_loss(d), "shape or segments"),
        (lambda d: balance.sequence_loss(d, shape=(2, 2)), "shape"),
        (lambda d: balance.sequence_loss(d, segments=torch.zeros(3)), "segments"),
        (lambda d: balance.group_loss(d, torch.tensor([0, 1])), "groups"),
        (lambda d: balance.group_loss(d, torch.tensor([0, -1, 0, 0])), "groups"),
        (lambda d: balance.communication_loss(d, torch.rand(4)), "groups"),
        (lambda d: balance.global_switch_loss(d, earlier=torch.zeros(3)), "earlier"),
        (lambda d: balance.load_loss(d), "size"),
        (lambda d: balance.load_loss(d, size=torch.ones(1, 1)), "size"),
        (lambda d: balance.smooth_load(d.logits, d.logits, d.logits, 4), "k"),
        (lambda d: balance.entropy_loss(d, order=0.0), "order"),
        (lambda d: balance.l1_loss(d, k=0.0), "k"),
    ],
)
def test_refusals(call: object, field: str) -> None:
    """What cannot be computed is refused by name."""
    with pytest.raises(InputError) as caught:
        call(_random(5, 4, 2, seed=7))  # type: ignore[operator]
    assert caught.value.field == field


def test_softmax_gate_gives_what_its_logits_give() -> None:
    """For a softmax gate the two readings of probabilities agree."""
    generator = torch.Generator().manual_seed(8)
    gate = Gate(
        LinearScorer(6, 4, generator=generator),
        TopK(2),
        SoftmaxOfChosen(),
        processors=[Softmax()],
        e=4,
    )
    decision = gate(torch.randn(20, 6, generator=generator))
    a = balance.switch_loss(decision)
    b = balance.switch_loss(decision, probabilities=balance.share_of_scores)
    assert torch.allclose(a, b)
