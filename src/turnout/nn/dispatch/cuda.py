"""Dispatch on CUDA: which of the Triton kernels, torch's grouped product or the slow path.

The choice is data. Triton's kernels gather and gate inside the product and take one token in
two launches; `torch.nn.functional.grouped_mm` does the plain product of many rows but needs the
rows permuted in memory, the gate and the sum as passes of their own. What neither can express
(biases or activations of a bank's own, fp64) goes to the reference.

Measured on one H100 80GB (`benchmarks/moe_gpu.py`, bf16): Triton's kernels were the quicker in
every forward cell, and in every training cell of experts of 2048 x 1408. Experts of 4096 x 14336,
trained, were quicker by the grouped product from some 128 rows an expert on (1.02, 1.23 and 1.36
times at 128, 1024 and 4096 rows): long products have the time to hide what is moved around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import naive, triton

if TYPE_CHECKING:
    from turnout.nn.dispatch.bank import Bank

__all__ = ["LONG", "PATHS", "ROWS", "choose", "grouped", "long_training", "run"]

#: Paths by name, in the order of preference.
PATHS = ("triton", "grouped", "naive")

#: Trained experts of d * f numbers or more, with as many rows each, go to the grouped product. The
#: first lies between the two sizes measured.
LONG, ROWS = 16_000_000, 128


def choose(x: torch.Tensor, bank: Bank, *, slots: int = 0, learn: bool = False) -> str:
    """Name of the path for rows x on a bank.

    Parameters
    ----------
    x : Tensor (t, d)
    bank : Bank
    slots : int
        Rows in all, t * k.
    learn : bool
        Whether gradients will be asked for.

    Returns
    -------
    str
        One of `PATHS`.
    """
    product = not _why_not_grouped(x, bank)
    if not triton.refusal(x, bank):
        long = learn and long_training(bank.d, bank.f, bank.e, slots)
        return "grouped" if long and product else "triton"
    return "grouped" if product else "naive"


def long_training(d: int, f: int, e: int, slots: int) -> bool:
    """Whether training e experts of d x f on so many rows is quicker by the grouped product."""
    return d * f >= LONG and slots >= ROWS * e


def run(
    x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank, *, backend: str = "auto"
) -> torch.Tensor:
    """Weighted sum over the chosen experts.

    Parameters
    ----------
    x : Tensor (t, d)
    ids : Tensor (t, k) int64
        Expert of each slot; e means none.
    weights : Tensor (t, k)
    bank : Bank
    backend : str
        A name of `PATHS`, or "auto".

    Returns
    -------
    Tensor (t, d_out)

    Raises
    ------
    InputError
        An unknown name, or a path that cannot do this.
    """
    name = backend
    if name == "auto":
        name = choose(x, bank, slots=ids.numel(), learn=_learns(x, weights, bank))
    if name == "triton":
        return triton.run(x, ids, weights, bank)
    if name == "grouped":
        return grouped(x, ids, weights, bank)
    if name == "naive":
        return naive.run(x, ids, weights, bank)
    rule = "be auto or one of " + ", ".join(PATHS)
    raise InputError("backend", rule, backend, "Correct the name.")


def _learns(x: torch.Tensor, weights: torch.Tensor, bank: Bank) -> bool:
    """Whether gradients will be asked for."""
    sources = (x, weights, bank.first, bank.down, bank.up_bias, bank.down_bias)
    return torch.is_grad_enabled() and any(s is not None and s.requires_grad for s in sources)


def _why_not_grouped(x: torch.Tensor, bank: Bank) -> str:
    """Why the grouped product cannot do a bank's work, or the empty word if it can."""
    up = bank.first
    if not hasattr(torch.nn.functional, "grouped_mm"):
        return "this torch has no grouped_mm"
    if x.is_cuda and up.dtype != torch.bfloat16:
        return f"the matrices are {up.dtype}, not bfloat16"
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "the device is older than compute capability 8.0"
    if any(size * w.element_size() % 16 for w in (up, bank.down) for size in w.shape[1:]):
        return "a row of the matrices is no multiple of 16 bytes"
    return ""


def grouped(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Weighted sum over the chosen experts by `torch.nn.functional.grouped_mm`.

    Never waits for the host. Rows behind the last expert's are undefined in the products and in
    their gradients; they are cut off where a sum would meet them.

    Parameters
    ----------
    x : Tensor (t, d)
    ids : Tensor (t, k) int64
        Expert of each slot; e means none.
    weights : Tensor (t, k)
    bank : Bank

    Returns
    -------
    Tensor (t, d_out)

    Raises
    ------
    InputError
        The grouped product cannot do this.
    """
    why = _why_not_grouped(x, bank)
    if why:
        raise InputError("bank", "fit the grouped product", why, 'Use backend="auto".')
    up, down = triton.matrices(bank)
    (t, k), e = ids.shape, down.shape[0]
    if t * k == 0:
        return triton.nothing(x, up, down, weights)
    learn = _learns(x, weights, bank)
    expert, order = torch.sort(ids.reshape(-1).clamp(0, e).to(torch.int32), stable=True)
    ends = torch.searchsorted(
        expert, torch.arange(e, device=ids.device, dtype=torch.int32), right=True
    ).to(torch.int32)
    rows = x.to(up.dtype).index_select(0, order // k)
    live = (expert < e).unsqueeze(1)
    if learn:
        rows = torch.where(live, rows, 0)
    whose = expert.clamp(max=e - 1).long()
    z = torch.nn.functional.grouped_mm(rows, up.transpose(1, 2), offs=ends)
    if bank.up_bias is None:
        h = bank.gate(z)
    else:
        # Cut off on both sides: neither an undefined row nor its gradient may meet the bias.
        h = bank.gate(torch.where(live, z, 0) + bank.up_bias[whose])
        h = torch.where(live, h, 0)
    y = torch.nn.functional.grouped_mm(h, down.transpose(1, 2), offs=ends)
    if bank.down_bias is not None:
        y = torch.where(live, y, 0) + bank.down_bias[whose]
    back = torch.empty_like(order)
    back[order] = torch.arange(t * k, device=ids.device)
    real = ids.reshape(-1) < e
    if not learn and triton.available() and x.is_cuda:
        pos = torch.where(real, back, -1).to(torch.int32)
        return triton.combine(y, pos, weights.contiguous(), (t, k), x.dtype)
    y = torch.where(live, y, 0).index_select(0, back).view(t, k, -1)
    made = y.float() * torch.where(real.view(t, k), weights.float(), 0).unsqueeze(2)
    return made.sum(1).to(x.dtype)
