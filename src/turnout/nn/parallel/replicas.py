"""Parameters that every process has a copy of: their gradients added up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import distributed, nn

__all__ = ["sum_gradients"]


def sum_gradients(
    parameters: Iterable[nn.Parameter],
    group: distributed.ProcessGroup | None = None,
    *,
    mean: bool = False,
) -> None:
    """Replace each gradient by the sum, or the mean, over the processes of a group.

    For what is replicated, such as gates, attention and norms; never for the experts of
    `ParallelExperts`, which already hold the sum over the tokens of all. With `mean` divide the
    loss of the experts too: their gradient stays a sum. Call it after the backward pass, with the
    same parameters in the same order in every process; one without a gradient counts as 0.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    group : ProcessGroup, optional
        The default group where none is given; without one nothing is done.
    mean : bool
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    by_kind: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in wanted:
        by_kind.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    for same in by_kind.values():
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad.detach()).reshape(-1) for p in same]
        )
        distributed.all_reduce(flat, group=group)
        if mean:
            flat /= distributed.get_world_size(group)
        parts = torch.split(flat, [parameter.numel() for parameter in same])
        for parameter, part in zip(same, parts, strict=True):
            parameter.grad = part.reshape(parameter.shape).clone()
