"""How the losses read a decision: probabilities, shares, means over real tokens.

Shared by `turnout.nn.balance.losses`. Masked tokens may hold anything, NaN included; their rows are
set to 0 before anything is computed, so that neither value nor gradient sees them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.gates import Decision

#: How a decision is read as probabilities (t, e) over experts.
Probabilities = Callable[[Decision], torch.Tensor]

TINY = 1e-20


def softmax_of_logits(decision: Decision) -> torch.Tensor:
    """Softmax over the logits of the e experts, (t, e); null columns take no part.

    Raises
    ------
    InputError
        The decision carries no logits.
    """
    return logits_of(decision)[:, : decision.e].softmax(dim=1)


def share_of_scores(decision: Decision) -> torch.Tensor:
    """The scores over their sum in each row, (t, e): for gates whose scores are sigmoids.

    DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024, arXiv:2412.19437, eq. 19::

        s'_ij = s_ij / sum_j s_ij

    Raises
    ------
    InputError
        The decision carries no scores, or one is negative: then they are still logits.
    """
    if decision.scores is None:
        hint = "Take a gate that has scores, or softmax_of_logits."
        raise InputError("decision.scores", "be given", None, hint)
    scores = quiet(decision.scores, decision)[:, : decision.e]
    if not torch.compiler.is_compiling() and scores.numel() and bool((scores.detach() < 0).any()):
        low = float(scores.detach().min())
        raise InputError("decision.scores", "be >= 0", low, "Take softmax_of_logits.")
    return scores / scores.sum(dim=1, keepdim=True).clamp(min=TINY)


def real_only(decision: Decision) -> Decision:
    """The decision with masked tokens sent nowhere, also where its maker left them an expert."""
    return decision if decision.mask is None else decision.masked(decision.mask)


def load_of(decision: Decision) -> torch.Tensor:
    """Real tokens each expert receives, int64 (e,)."""
    return real_only(decision).load()


def dot(share: torch.Tensor, mean: torch.Tensor, e: int) -> torch.Tensor:
    """`e sum_j f_j P_j`."""
    return e * (share * mean).sum()


def share(load: torch.Tensor) -> torch.Tensor:
    """The load (..., e) over its sum; zeros where nothing was sent."""
    counts = load.detach().float()
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1.0)


def mean_over_tokens(value: torch.Tensor, decision: Decision) -> torch.Tensor:
    """The mean of (t, ...) over real tokens; 0 where there is none."""
    real = decision.real
    shape = (-1,) + (1,) * (value.ndim - 1)
    total = value.masked_fill(~real.reshape(shape), 0.0).sum(dim=0)
    return total / real.sum().clamp(min=1)


def cv_squared(value: torch.Tensor) -> torch.Tensor:
    """Population variance over the squared mean; 0 where all is 0."""
    mean = value.mean()
    return (value - mean).square().mean() / mean.square().clamp(min=TINY)


def quiet(value: torch.Tensor, decision: Decision) -> torch.Tensor:
    """`value` in float32, with 0 in the rows of masked tokens, which may hold anything."""
    value = value.float()
    if decision.mask is None:
        return value
    return value.masked_fill(~decision.mask.unsqueeze(1), 0.0)


def logits_of(decision: Decision) -> torch.Tensor:
    """The logits (t, e'), or a refusal."""
    if decision.logits is None:
        hint = "This loss needs a gate that scores experts."
        raise InputError("decision.logits", "be given", None, hint)
    return quiet(decision.logits, decision)


def segments_of(
    decision: Decision, shape: tuple[int, int] | None, segments: torch.Tensor | None
) -> tuple[torch.Tensor, int]:
    """Sequence of each token (t,), numbered from 0, and how many there are."""
    if (shape is None) == (segments is None):
        hint = "Pass shape=(b, s) or segments=(t,)."
        raise InputError("shape or segments", "be given, one of them", (shape, segments), hint)
    if shape is not None:
        b, s = shape
        if b * s != decision.t:
            rule = f"multiply to the {decision.t} tokens given"
            raise InputError("shape", rule, shape, "Pass (sequences, positions).")
        return torch.arange(b, device=decision.experts.device).repeat_interleave(s), b
    assert segments is not None
    if tuple(segments.shape) != (decision.t,):
        rule = f"have shape ({decision.t},)"
        raise InputError("segments", rule, tuple(segments.shape), "Flatten them.")
    names, index = torch.unique(segments, return_inverse=True)
    return index, len(names)


def groups_of(decision: Decision, groups: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Groups (e,) on the device of the decision, and how many there are."""
    wrong = groups.is_floating_point() or tuple(groups.shape) != (decision.e,)
    if wrong or int(groups.min()) < 0:
        rule = f"be {decision.e} whole numbers >= 0, one an expert"
        raise InputError("groups", rule, groups.tolist(), "Number the groups from 0.")
    return groups.to(decision.experts.device, torch.int64), int(groups.max()) + 1


def sums_by(value: torch.Tensor, groups: torch.Tensor, g: int) -> torch.Tensor:
    """Sums (g,) of a value (e,) over groups."""
    return value.new_zeros(g).index_add(0, groups, value)


def positive(name: str, value: float) -> float:
    """One finite number above 0, or a refusal."""
    if _check.number(name, value, low=0.0) == 0.0:
        raise InputError(name, "be > 0", value, "Raise it.")
    return float(value)
