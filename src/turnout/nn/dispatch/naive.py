"""The reference: a loop over experts. Slow, plain, and what every other path is held against."""

from __future__ import annotations

import torch

from turnout.nn.dispatch.bank import Bank

__all__ = ["run"]


def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Weighted sum over the chosen experts, in float32 throughout (float64 for float64 rows).

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
        In the dtype of x. Experts without rows take part with none, so that every gradient exists.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    total = torch.zeros((len(x), bank.d_out), dtype=exact, device=x.device)
    rows, scale = x.to(exact), weights.to(exact)
    # unbind, because the gradient of an index is as large as all experts together
    matrices = zip(bank.first.unbind(), bank.down.unbind(), strict=True)
    for j, (first, down) in enumerate(matrices):
        token, slot = (ids == j).nonzero(as_tuple=True)
        if not bank.transposed:
            first, down = first.t(), down.t()
        z = rows[token] @ first.to(exact)
        if bank.up_bias is not None:
            z = z + bank.up_bias[j].to(exact)
        made = bank.gate(z) @ down.to(exact)
        if bank.down_bias is not None:
            made = made + bank.down_bias[j].to(exact)
        total = total.index_add(0, token, made * scale[token, slot][:, None])
    return total.to(x.dtype)
