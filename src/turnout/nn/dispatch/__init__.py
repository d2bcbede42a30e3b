"""Dispatch: rows to experts and back, fast."""

from __future__ import annotations

import torch

from turnout.nn.dispatch import naive
from turnout.nn.dispatch.bank import Bank

__all__ = ["Bank", "run"]


def run(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Weighted sum (t, d_out) over the chosen experts (t, k); see `turnout.nn.dispatch.naive`."""
    return naive.run(x, ids, weights, bank)
