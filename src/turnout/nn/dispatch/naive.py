"""The reference: a loop over experts. Slow, plain, and what every other path is held against."""

from __future__ import annotations

import torch

from turnout.nn.dispatch.bank import Bank

__all__ = ["run"]


def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Weighted sum over the chosen experts, accumulated in float32 (float64 for float64 rows).

    Parameters
    ----------
    x : tensor (t, d)
    ids : int64 tensor (t, k)
        Expert of each slot; e = none.
    weights : tensor (t, k)
    bank : Bank

    Returns
    -------
    tensor (t, d_out)
        In the dtype of x.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    total = torch.zeros((len(x), bank.d_out), dtype=exact, device=x.device)
    for j in range(bank.e):
        token, slot = (ids == j).nonzero(as_tuple=True)
        if not len(token):
            continue
        first, down = bank.first[j], bank.down[j]
        if not bank.transposed:
            first, down = first.t(), down.t()
        z = x[token] @ first
        if bank.up_bias is not None:
            z = z + bank.up_bias[j]
        made = bank.gate(z) @ down
        if bank.down_bias is not None:
            made = made + bank.down_bias[j]
        total = total.index_add(0, token, made.to(exact) * weights[token, slot].to(exact)[:, None])
    return total.to(x.dtype)
