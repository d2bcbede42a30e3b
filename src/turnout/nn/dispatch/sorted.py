"""Sorted rows: one product an expert, in torch alone. For where no kernel was built.

::

    order          slots sorted by expert, stable; slots of no expert cut off
    z[r]           = x[token(r)] G[e(r)]^T                  one product an expert
    y[r]           = gate(z[r]) D[e(r)]^T
    out[t]         = sum_j weights[t, j] y[row(t, j)]

Without gradients everything between x and the answer lies in buffers that the thread keeps: fresh
memory of the size of the rows costs more than sorting, gathering and summing together. With
gradients the two products are one autograd node each, whose gradient for the matrices touches
only experts with rows: an indexed `W[e]` inside autograd costs a tensor as large as all experts,
once an expert. The gate between them is ordinary autograd, so that any gate will do.

Either product is `torch.nn.functional.grouped_mm` where asked for and possible, else a product an
expert. On a processor the first is a loop over the second, and neither was faster by more than
the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from turnout.core.errors import InputError
from turnout.nn.dispatch import _kinds, _memory
from turnout.nn.dispatch.bank import Bank

__all__ = ["Plan", "plan", "run"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Slots in the order of their experts.

    Parameters
    ----------
    order : int64 tensor (p,)
        Slots, token * k + choice, by expert; slots of no expert are left out.
    token : int64 tensor (p,)
        Whose row it is.
    counts : tuple of int, length e
        Rows of each expert.
    """

    order: torch.Tensor
    token: torch.Tensor
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in all, p."""
        return sum(self.counts)


def plan(ids: torch.Tensor, e: int) -> Plan:
    """Sort slots by expert.

    Parameters
    ----------
    ids : int64 tensor (t, k)
    e : int

    Raises
    ------
    InputError
        A number lies outside 0 to e.
    """
    flat = ids.reshape(-1)
    if not len(flat):
        return Plan(flat, flat, (0,) * e)
    low, high = torch.aminmax(flat)
    if int(low) < 0 or int(high) > e:
        wrong = int(low) if int(low) < 0 else int(high)
        raise InputError("ids", f"lie in [0, {e}]", wrong, f"{e} stands for no expert.")
    # sixteen bits sort three times as fast
    keys = flat.to(torch.int16) if e < 2**15 else flat
    order = torch.sort(keys, stable=True).indices
    counts = tuple(torch.bincount(flat, minlength=e + 1)[:e].tolist())
    order = order[: sum(counts)]
    return Plan(order, order // ids.shape[1], counts)


def run(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    grouped: bool = False,
) -> torch.Tensor:
    """Weighted sum over the chosen experts.

    Parameters
    ----------
    x : tensor (t, d)
    ids : int64 tensor (t, k)
        Expert of each slot; e = none.
    weights : tensor (t, k)
    bank : Bank
    grouped : bool
        Whether to take `torch.nn.functional.grouped_mm` where it can be had.

    Returns
    -------
    tensor (t, d_out)
        In the dtype of x.

    Raises
    ------
    InputError
        A number lies outside 0 to e.
    """
    route = plan(ids, bank.e)
    grouped = grouped and _fits_grouped(bank)
    if _kinds.learns(x, weights, bank) or not _kinds.plain(x, bank.first, bank.down):
        return _learn(x, route, ids, weights, bank, grouped)
    with _memory.WORKSPACE.lease() as lease:
        return _infer(x, route, weights, bank, grouped, lease)


def _fits_grouped(bank: Bank) -> bool:
    """Whether every row of the matrices fills units of 16 bytes and the type is known."""
    known = (torch.float32, torch.bfloat16, torch.float16)
    if not hasattr(functional, "grouped_mm") or bank.first.dtype not in known:
        return False
    sizes = (*bank.first.shape[1:], *bank.down.shape[1:])
    return all(size * bank.first.element_size() % 16 == 0 for size in sizes)


def _ends(counts: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(counts, dtype=torch.int64).cumsum(0).to(device, torch.int32)


def _infer(
    x: torch.Tensor,
    route: Plan,
    weights: torch.Tensor,
    bank: Bank,
    grouped: bool,
    lease: _memory.Lease,
) -> torch.Tensor:
    """Without gradients, in the thread's buffers."""
    (t, k), p, dtype = weights.shape, route.rows, bank.first.dtype
    if t * k == 0:
        return x.new_zeros(len(x), bank.d_out)
    rows = lease.take("rows", (p, bank.d), dtype)
    torch.index_select(x.to(dtype), 0, route.token, out=rows)
    # one row more than there are: zeros, for slots of no expert
    made = lease.take("made", (p + 1, bank.d_out), dtype)
    made[p] = 0
    up, down = bank.first, bank.down
    if not bank.transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)
    if grouped and p:
        ends = _ends(route.counts, x.device)
        z = functional.grouped_mm(rows, up, offs=ends)
        if bank.up_bias is not None:
            z += bank.up_bias.repeat_interleave(torch.tensor(route.counts), dim=0)
        made[:p] = functional.grouped_mm(_gate(z, bank), down, offs=ends)
    else:
        most = max(route.counts, default=0)
        room = lease.take("inner", (most, up.shape[2]), dtype)
        start = 0
        for j, (count, first, second) in enumerate(
            zip(route.counts, up.unbind(), down.unbind(), strict=True)
        ):
            if count:
                z = torch.mm(rows[start : start + count], first, out=room[:count])
                if bank.up_bias is not None:
                    z += bank.up_bias[j]
                torch.mm(_gate(z, bank), second, out=made[start : start + count])
                start += count
    if bank.down_bias is not None:
        made[:p] += bank.down_bias.repeat_interleave(torch.tensor(route.counts), dim=0)
    where = lease.take("where", (t * k,), torch.int64).fill_(p)
    where[route.order] = torch.arange(p)
    where = where.view(t, k)
    exact = torch.promote_types(dtype, torch.float32)
    scale = weights.to(exact)
    if p < t * k:
        scale = scale.masked_fill(where == p, 0)
    if dtype == exact:
        total = functional.embedding_bag(where, made, per_sample_weights=scale, mode="sum")
        return total.to(x.dtype)
    picked = made[where].to(exact)
    return torch.einsum("tk,tkd->td", scale, picked).to(x.dtype)


def _gate(z: torch.Tensor, bank: Bank) -> torch.Tensor:
    """The bank's gate on values that may be overwritten."""
    if _kinds.kind(bank.act) == "silu" and bank.gated and _kinds.halves(bank):
        gate, up = z.chunk(2, dim=-1)
        return functional.silu(gate, inplace=True).mul_(up)
    return bank.gate(z)


def _learn(
    x: torch.Tensor,
    route: Plan,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    grouped: bool,
) -> torch.Tensor:
    """With gradients, or for tensors of other kinds."""
    dtype = bank.first.dtype
    exact = torch.promote_types(dtype, torch.float32)
    rows = x.to(dtype).index_select(0, route.token)
    how = _How(route.counts, bank.transposed, grouped)
    z: torch.Tensor = _Linear.apply(rows, bank.first, bank.up_bias, how)  # type: ignore[no-untyped-call]
    made: torch.Tensor = _Linear.apply(bank.gate(z), bank.down, bank.down_bias, how)  # type: ignore[no-untyped-call]
    scale = weights.reshape(-1).index_select(0, route.order).to(exact).unsqueeze(1)
    total = torch.zeros((len(x), bank.d_out), dtype=exact, device=x.device)
    return total.index_add(0, route.token, made.to(exact) * scale).to(x.dtype)


@dataclass(frozen=True)
class _How:
    counts: tuple[int, ...]
    transposed: bool
    grouped: bool


class _Linear(torch.autograd.Function):
    """Rows (p, in) times their expert's matrix, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        w: torch.Tensor,
        bias: torch.Tensor | None,
        how: _How,
    ) -> torch.Tensor:
        """Products (p, out)."""
        ctx.save_for_backward(rows, w)
        ctx.how, ctx.bias = how, None if bias is None else bias.dtype
        out = _product(rows, w if how.transposed else w.transpose(1, 2), how)
        if bias is not None:
            whose = torch.tensor(how.counts, device=w.device)
            out += bias.repeat_interleave(whose, dim=0)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of rows, matrices and bias."""
        rows, w = ctx.saved_tensors
        how: _How = ctx.how
        drows = dw = dbias = None
        dy = dy.contiguous()
        if ctx.needs_input_grad[0]:
            drows = _product(dy, w.transpose(1, 2) if how.transposed else w, how)
        if ctx.needs_input_grad[1]:
            left, right = (rows, dy) if how.transposed else (dy, rows)
            dw = _zeros(tuple(w.shape), w)
            start = 0
            for count, to in zip(how.counts, dw.unbind(), strict=True):
                if count:
                    here = slice(start, start + count)
                    torch.mm(left[here].t(), right[here], out=to)
                    start += count
        if ctx.bias is not None and ctx.needs_input_grad[2]:
            parts = torch.split(dy, list(how.counts))
            dbias = torch.stack([part.sum(dim=0) for part in parts]).to(ctx.bias)
        return drows, dw, dbias, None


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "cpu":
        return _memory.zeros(shape, like.dtype)
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _product(rows: torch.Tensor, w: torch.Tensor, how: _How) -> torch.Tensor:
    """Rows times matrices (e, in, out) of their expert, new memory."""
    if how.grouped and len(rows):
        return functional.grouped_mm(rows, w, offs=_ends(how.counts, w.device))
    out = rows.new_empty((len(rows), w.shape[2]))
    start = 0
    for count, matrix in zip(how.counts, w.unbind(), strict=True):
        if count:
            here = slice(start, start + count)
            torch.mm(rows[here], matrix, out=out[here])
            start += count
    return out
