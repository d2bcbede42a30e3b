"""Loads: how evenly a layer's tokens are spread over its experts, in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import distributed

from turnout.core import _check
from turnout.core.errors import InputError

__all__ = ["LoadReport", "report", "total_over"]


@dataclass(frozen=True)
class LoadReport:
    """How evenly the experts of one layer were used.

    With A_j the tokens sent to expert j, and A the mean of them over the e experts. Where nothing
    was sent at all, the four ratios are NaN.

    Parameters
    ----------
    pairs : int
        Sum of A_j: places taken, one for each token and expert.
    max_over_mean : float
        max_j A_j / A; 1 when even, e when one expert has all.
    max_violation : float
        MaxVio, max_j A_j / A - 1 (Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for
        Mixture-of-Experts", 2024, arXiv:2408.15664, section 4.1).
    cv : float
        Coefficient of variation: standard deviation over the e experts (divided by e, not e - 1),
        over A.
    entropy : float
        Of the shares A_j / sum A, over ln e: 1 when even, 0 when one expert has all; 1 where e = 1.
    dead : int
        Experts with A_j = 0.
    dropped : float
        Slots that were chosen and then dropped, over all that were chosen; NaN where none was.
    """

    pairs: int
    max_over_mean: float
    max_violation: float
    cv: float
    entropy: float
    dead: int
    dropped: float


def report(load: torch.Tensor, *, dropped: int = 0) -> LoadReport:
    """The load (e,) of one layer in a few numbers.

    Parameters
    ----------
    load : tensor (e,)
        Tokens each expert received.
    dropped : int
        Slots dropped for want of capacity.

    Raises
    ------
    InputError
        The load is not one number >= 0 an expert.
    """
    if load.ndim != 1 or not len(load):
        raise InputError("load", "have shape (e,)", tuple(load.shape), "Report layer by layer.")
    dropped = _check.integer("dropped", dropped, low=0)
    counts = load.detach().to("cpu", torch.float64)
    least = float(counts.min())
    if not least >= 0.0:
        raise InputError("load", "be >= 0", least, "Count the tokens sent to each expert.")
    e, total = len(counts), float(counts.sum())
    offered = total + dropped
    lost = dropped / offered if offered else math.nan
    dead = int((counts == 0).sum())
    if not total:
        return LoadReport(0, math.nan, math.nan, math.nan, math.nan, dead, lost)
    mean = total / e
    peak = float(counts.max()) / mean
    share = counts / total
    entropy = -float(torch.special.xlogy(share, share).sum()) / math.log(e) if e > 1 else 1.0
    return LoadReport(
        pairs=round(total),
        max_over_mean=peak,
        max_violation=peak - 1.0,
        cv=float(counts.std(correction=0)) / mean,
        entropy=min(1.0, max(0.0, entropy)),  # rounding may leave a hair more
        dead=dead,
        dropped=lost,
    )


def total_over(value: torch.Tensor, group: distributed.ProcessGroup | None = None) -> torch.Tensor:
    """The sum of a tensor over the processes of a group, in every one of them; a new tensor.

    Without a process group the value is its own sum. Every process of the group must call.

    Parameters
    ----------
    value : tensor
    group : ProcessGroup, optional
        The default group where none is given.
    """
    total = value.detach().clone()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total, group=group)
    return total
