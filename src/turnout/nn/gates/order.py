"""The order of scores: stable, so that a tie is never broken by chance."""

from __future__ import annotations

import torch

__all__ = ["top_columns"]


def top_columns(values: torch.Tensor, k: int) -> torch.Tensor:
    """Columns of the k greatest values of each row, the greatest first; ties to the lower column.

    `torch.topk` breaks ties as it likes, so that the same row can be routed in two ways. Here the
    rows with a tie, seldom any, are sorted again.
    """
    columns = values.shape[1]
    if values.is_cuda or torch.compiler.is_compiling() or k == columns:
        return values.sort(dim=1, descending=True, stable=True).indices[:, :k]
    best, order = values.topk(k + 1, dim=1)
    tied = (best[:, 1:] == best[:, :-1]).any(dim=1)
    order = order[:, :k]
    if bool(tied.any()):
        exact = values[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
        order = order.clone()
        order[tied] = exact
    return order
