"""Balance losses of one layer, each a function of its decision alone.

They count what the decision says was really done: a forced, replayed or dropped slot changes them.
Masked tokens count nowhere, sums run in float32, and the number does not depend on how many tokens
or slots there are. Counts carry no gradient; probabilities, weights and logits do. A coefficient
belongs outside, see `turnout.nn.balance.Losses`.

A slot that was dropped for want of room no longer names its expert. Where capacity is tight, the
counts look even although the gate is not: read the dropped share beside the loss.
"""

from __future__ import annotations

import torch
from torch import distributed

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.balance._reading import (
    TINY,
    Probabilities,
    cv_squared,
    dot,
    groups_of,
    load_of,
    logits_of,
    mean_over_tokens,
    positive,
    quiet,
    real_only,
    segments_of,
    share,
    share_of_scores,
    softmax_of_logits,
    sums_by,
)
from turnout.nn.balance.loads import total_over
from turnout.nn.gates import Decision

__all__ = [
    "Probabilities",
    "communication_loss",
    "entropy_loss",
    "global_switch_loss",
    "group_loss",
    "importance_loss",
    "l1_loss",
    "load_loss",
    "sequence_loss",
    "share_of_scores",
    "smooth_load",
    "softmax_of_logits",
    "switch_loss",
    "z_loss",
]


def switch_loss(
    decision: Decision, *, probabilities: Probabilities = softmax_of_logits
) -> torch.Tensor:
    """The balance loss of Switch and GShard, over all tokens given; a scalar.

    Fedus et al., "Switch Transformers", 2021, arXiv:2101.03961, eq. 4-6; Lepikhin et al., "GShard",
    2020, arXiv:2006.16668, section 2.2::

        loss = e sum_j f_j P_j
        f_j = share of the filled slots that are expert j's,   P_j = mean probability of j

    The slots of a token share one vote, so that the value is comparable between gates: 1 where the
    load is even, e / k where every token surely goes to the same k experts. transformers counts
    every slot in full and has k times this value, over the pooled tokens of all layers.

    Parameters
    ----------
    decision : Decision
    probabilities : callable
        `softmax_of_logits`, or `share_of_scores` for sigmoid gates.
    """
    return dot(
        share(load_of(decision)), mean_over_tokens(probabilities(decision), decision), decision.e
    )


def sequence_loss(
    decision: Decision,
    *,
    shape: tuple[int, int] | None = None,
    segments: torch.Tensor | None = None,
    probabilities: Probabilities = softmax_of_logits,
) -> torch.Tensor:
    """`switch_loss` within each sequence, averaged over the sequences; a scalar.

    DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024, arXiv:2412.19437, eq. 17-20, without its
    coefficient and with `probabilities=share_of_scores` there.

    Parameters
    ----------
    decision : Decision
    shape : tuple of int, optional
        (b, s): the tokens are b sequences of s positions.
    segments : integer tensor (t,), optional
        Or the document each token is of.
    probabilities : callable

    Raises
    ------
    InputError
        Neither or both of `shape` and `segments` are given, or they do not fit the tokens.
    """
    segment, n = segments_of(decision, shape, segments)
    e, device = decision.e, decision.experts.device
    flat = (segment.unsqueeze(1) * (e + 1) + real_only(decision).experts).reshape(-1)
    load = torch.zeros(n * (e + 1), dtype=torch.int64, device=device)
    load = load.scatter_add(0, flat, torch.ones_like(flat)).reshape(n, e + 1)[:, :e]
    real = decision.real
    chance = probabilities(decision).masked_fill(~real.unsqueeze(1), 0.0)
    tokens = torch.zeros(n, device=device).index_add(0, segment, real.float())
    mean = chance.new_zeros((n, e)).index_add(0, segment, chance)
    mean = mean / tokens.clamp(min=1.0).unsqueeze(1)
    each = e * (share(load) * mean).sum(dim=1)
    return each.sum() / (tokens > 0).sum().clamp(min=1)


def global_switch_loss(
    decision: Decision,
    *,
    group: distributed.ProcessGroup | None = None,
    earlier: torch.Tensor | None = None,
    probabilities: Probabilities = softmax_of_logits,
) -> torch.Tensor:
    """`switch_loss` with the counts of the whole global batch; a scalar.

    Qiu et al., "Demons in the Detail: On Implementing Load Balancing Loss for Training Specialized
    Mixture-of-Expert Models", 2025, arXiv:2501.11873, section 3: counts are summed over processes,
    and over the micro-batches so far. Probabilities stay local: they enter linearly, so averaging
    the gradients over processes of equally many tokens gives the loss of the global batch. Every
    process of the group must call, layer by layer in the same order.

    Parameters
    ----------
    decision : Decision
    group : ProcessGroup, optional
        The default group where one is running.
    earlier : tensor (e,), optional
        Load of this process's earlier micro-batches of the same step.
    probabilities : callable
    """
    load = load_of(decision)
    if earlier is not None:
        if earlier.shape != load.shape:
            rule = f"have shape ({decision.e},)"
            raise InputError("earlier", rule, tuple(earlier.shape), "Keep one load a layer.")
        load = load + earlier.to(load.dtype)
    mean = mean_over_tokens(probabilities(decision), decision)
    return dot(share(total_over(load, group)), mean, decision.e)


def group_loss(
    decision: Decision,
    groups: torch.Tensor,
    *,
    probabilities: Probabilities = softmax_of_logits,
) -> torch.Tensor:
    """Balance between groups of experts, such as those of one device; a scalar, 1 when even.

    DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434, eq. 26-28 (device-level balance)::

        loss = sum_g f'_g P'_g,   f'_g = mean over the group of e f_j,   P'_g = sum over it of P_j

    Parameters
    ----------
    decision : Decision
    groups : int64 tensor (e,)
        Group of each expert, numbered from 0.
    probabilities : callable

    Raises
    ------
    InputError
        Not one group an expert.
    """
    groups, g = groups_of(decision, groups)
    used = sums_by(share(load_of(decision)), groups, g)
    members = sums_by(torch.ones(decision.e, device=groups.device), groups, g)
    mean = sums_by(mean_over_tokens(probabilities(decision), decision), groups, g)
    return (decision.e * used / members * mean).sum()


def communication_loss(
    decision: Decision,
    groups: torch.Tensor,
    *,
    probabilities: Probabilities = softmax_of_logits,
) -> torch.Tensor:
    """Balance of what devices receive; a scalar, 1 when even.

    DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434, eq. 29-31. A token sent to several experts
    of one device travels once::

        loss = g sum_i f''_i P''_i,   f''_i = share of the travels that go to device i

    The paper divides by the most devices a token may use; here it is by the travels there were, so
    that the value does not depend on how many a token uses.

    Parameters
    ----------
    decision : Decision
    groups : int64 tensor (e,)
        Device of each expert, numbered from 0.
    probabilities : callable

    Raises
    ------
    InputError
        Not one group an expert.
    """
    groups, g = groups_of(decision, groups)
    device = torch.cat([groups, groups.new_tensor([g])])[real_only(decision).experts]
    visits = torch.zeros((decision.t, g + 1), device=groups.device)
    visits = visits.scatter(1, device, 1.0)[:, :g].sum(dim=0)
    mean = sums_by(mean_over_tokens(probabilities(decision), decision), groups, g)
    return g * (share(visits) * mean).sum()


def importance_loss(decision: Decision) -> torch.Tensor:
    """Squared coefficient of variation of the weight each expert has in the batch; a scalar.

    Shazeer et al., "Outrageously Large Neural Networks", 2017, arXiv:1701.06538, eq. 6-7::

        importance_j = sum_i weight_ij,   loss = CV(importance)^2

    0 when even, e / k - 1 where the same k experts share all. The gradient flows through the
    weights.
    """
    return cv_squared(real_only(decision).dense().float().sum(dim=0))


def load_loss(
    decision: Decision,
    *,
    size: torch.Tensor | None = None,
    noisy: torch.Tensor | None = None,
) -> torch.Tensor:
    """Squared coefficient of variation of the smooth load of a noisy top-k gate; a scalar.

    Shazeer et al., "Outrageously Large Neural Networks", 2017, arXiv:1701.06538, eq. 8-11::

        loss = CV(sum_i P(i, j))^2

    Parameters
    ----------
    decision : Decision
        Its logits are the clean scores.
    size : tensor (t, e), optional
        Deviation of the noise, > 0; read from `decision.state["noise"]` where not given.
    noisy : tensor (t, e), optional
        Scores with noise; `decision.scores` where not given, which is right for a gate whose
        weights are a softmax of the chosen.

    Raises
    ------
    InputError
        The decision does not carry them, or k is not below e: then there is no choice to smooth.
    """
    clean = logits_of(decision)
    size = decision.state.get("noise") if size is None else size
    noisy = decision.scores if noisy is None else noisy
    for name, value in (("size", size), ("noisy", noisy)):
        if value is None or value.shape != clean.shape:
            found = None if value is None else tuple(value.shape)
            rule = f"have shape {tuple(clean.shape)}: the load of a noisy gate reads it"
            raise InputError(name, rule, found, "Pass what the gate drew.")
    assert size is not None
    assert noisy is not None
    chance = smooth_load(clean, quiet(noisy, decision), size.float(), decision.k)
    return cv_squared(chance.masked_fill(~decision.real.unsqueeze(1), 0.0).sum(dim=0))


def smooth_load(
    clean: torch.Tensor, noisy: torch.Tensor, size: torch.Tensor, k: int
) -> torch.Tensor:
    """Chance that expert j is among the k best if its noise alone were drawn again, (t, e).

    Shazeer et al., "Outrageously Large Neural Networks", 2017, arXiv:1701.06538, eq. 8-9::

        P(i, j) = Phi((clean_ij - kth greatest of noisy_i without j) / size_ij)

    Parameters
    ----------
    clean, noisy : tensor (t, e)
        Scores without and with noise.
    size : tensor (t, e)
        Deviation of the noise, > 0.
    k : int
        Experts a token, below e.

    Raises
    ------
    InputError
        k is not in [1, e - 1].
    """
    _check.integer("k", k, low=1, high=clean.shape[1] - 1)
    best = noisy.topk(k + 1, dim=1).values
    within, without = best[:, k - 1 : k], best[:, k:]
    # Among the others, j's rival is the k-th best overall, or the next where j itself is inside.
    rival = torch.where(noisy >= within, without, within)
    chance: torch.Tensor = torch.special.ndtr((clean - rival) / size)
    return chance


def z_loss(decision: Decision) -> torch.Tensor:
    """Mean squared log-sum-exp of the logits, which keeps them small; a scalar.

    Zoph et al., "ST-MoE", 2022, arXiv:2202.08906, eq. 5::

        loss = mean_i (log sum_j exp(logit_ij))^2

    Raises
    ------
    InputError
        The decision carries no logits.
    """
    return mean_over_tokens(logits_of(decision).logsumexp(dim=1).square(), decision)


def entropy_loss(
    decision: Decision, *, order: float = 1.0, probabilities: Probabilities = softmax_of_logits
) -> torch.Tensor:
    """Mean entropy of the probabilities of a token, in nats; a scalar, 0 when every gate is sure.

    Shannon's for order 1 (Huang et al., "Harder Tasks Need More Experts: Dynamic Routing in MoE
    Models", 2024, arXiv:2403.07652), otherwise Tsallis' (Li et al., "DynMoLE", 2025,
    arXiv:2504.00661)::

        S_1 = -sum_j p_j ln p_j,     S_q = (1 - sum_j p_j^q) / (q - 1)

    Parameters
    ----------
    decision : Decision
    order : float
        q, > 0.
    probabilities : callable

    Raises
    ------
    InputError
        The order is not above 0.
    """
    order = positive("order", order)
    p = probabilities(decision).clamp(min=TINY)
    if order == 1.0:
        return mean_over_tokens(-(p * p.log()).sum(dim=1), decision)
    return mean_over_tokens((1.0 - p.pow(order).sum(dim=1)) / (order - 1.0), decision)


def l1_loss(decision: Decision, *, k: float | None = None) -> torch.Tensor:
    """Mean sum of a token's weights, which drives a ReLU gate towards sparsity; a scalar.

    Wang et al., "ReMoE: Fully Differentiable Mixture-of-Experts with ReLU Routing", 2024,
    arXiv:2412.14711, section 3. With k, each expert's weight counts by its load::

        loss = mean_i sum_j F_j weight_ij,   F_j = 1, or e / (k t) * tokens of expert j

    Parameters
    ----------
    decision : Decision
    k : float, optional
        Experts a token that are aimed at, > 0.

    Raises
    ------
    InputError
        k is not above 0.
    """
    weight = real_only(decision).dense().float()
    if k is None:
        return mean_over_tokens(weight.sum(dim=1), decision)
    tokens = decision.real.sum().clamp(min=1)
    factor = decision.e / (positive("k", k) * tokens) * load_of(decision)
    return mean_over_tokens((weight * factor).sum(dim=1), decision)
