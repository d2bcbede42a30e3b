"""Dispatch on a graphics processor by Triton kernels: gather, products, gate, sum, all fused.

::

    h[r]   = act(x[token(r)] G[e(r)]^T) * (x[token(r)] U[e(r)]^T)     r: slots in expert order
    y[r]   = h[r] D[e(r)]^T
    out[t] = sum_j weights[t, j] y[row(t, j)]                         in fp32, slot by slot

Rows of x are gathered inside the first product: no permuted copy exists. Which row a slot is,
where an expert begins and which tile is whose is worked out on the device, so that a call never
waits for the host and can be captured in a CUDA graph; grids have the largest size that the
shapes allow, and programs without work end at once. Every sum has a fixed order: equal calls
give equal bits. A slot of no expert is never read and adds nothing.

One token takes two launches without any metadata: each slot streams its expert's matrices.

The gradient is explicit (Gale et al., "MegaBlocks: Efficient Sparse Training with
Mixture-of-Experts", 2023, arXiv:2211.15841, section 5, names the six products), see
`turnout.nn.dispatch._triton_backward`; an expert without rows gets exact zeros.

Inputs of 16 bits are multiplied on tensor cores with fp32 sums. Inputs of 32 bits are
multiplied in full ("ieee"), not in tf32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from turnout.core.errors import InputError, MissingExtraError
from turnout.nn.dispatch import _triton_launch as launch
from turnout.nn.dispatch import _triton_tiles
from turnout.nn.dispatch._triton_launch import available, combine

if TYPE_CHECKING:
    from turnout.nn.dispatch.bank import Bank

__all__ = ["available", "combine", "matrices", "nothing", "refusal", "run", "tune"]


class _Experts(torch.autograd.Function):
    """The forward pass with what the backward pass needs, and the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        ids: torch.Tensor,
        weights: torch.Tensor,
        up: torch.Tensor,
        down: torch.Tensor,
        shape: launch.Shape,
    ) -> torch.Tensor:
        """Weighted sum (t, d_out)."""
        k = ids.shape[1]
        route = launch.route(ids, up.shape[0], shape.tiling.rows)
        h, pre = launch.inner(x, k, up, route, shape, save=True)
        y = launch.product(h, down, route, shape)
        ctx.save_for_backward(x, weights, up, down, pre)
        ctx.route, ctx.shape, ctx.k = route, shape, k
        return combine(y, route.pos, weights, (ids.shape[0], k), x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, weights and the matrices."""
        x, weights, up, down, pre = ctx.saved_tensors
        route, shape, k = ctx.route, ctx.shape, ctx.k
        block, tiling = shape.tiling.back, shape.tiling
        dy = dy.to(x.dtype).contiguous()
        p, n_m, f = route.order.numel(), route.tile_expert.numel(), down.shape[2]
        dpre = torch.empty_like(pre)
        hw = torch.empty(p, f, dtype=x.dtype, device=x.device)
        parts = torch.empty(launch.cdiv(f, block.n), p, dtype=torch.float32, device=x.device)
        flipped = down.transpose(1, 2)
        with launch.guard(x):
            launch.module("backward")._back[(n_m * launch.cdiv(f, block.n),)](
                dy, weights, route.order, route.starts, route.tile_expert, route.tile_row,
                flipped, pre, dpre, hw, parts, n_m, p, k, dy.shape[1], f, dy.stride(0),
                *flipped.stride(),
                GATED=shape.gated, ACT=shape.act, EVEN=dy.shape[1] % block.k == 0,
                PRECISION="ieee", BM=tiling.rows, BN=block.n, BK=block.k, GROUP=tiling.group,
                num_warps=block.warps, num_stages=block.stages,
            )  # fmt: skip
            dx = dw = dup = ddown = None
            if ctx.needs_input_grad[0]:
                dx = combine(
                    launch.product(dpre, up.transpose(1, 2), route, shape),
                    route.pos, None, (x.shape[0], k), x.dtype,
                )  # fmt: skip
            if ctx.needs_input_grad[2]:
                pos = route.pos
                sums = parts.sum(0)[pos.clamp(min=0).long()]
                dw = torch.where(pos >= 0, sums, 0.0).view_as(weights).to(weights.dtype)
            if ctx.needs_input_grad[3]:
                dup = launch.outer(dpre, x, k, up, (False, True), route, tiling)
            if ctx.needs_input_grad[4]:
                ddown = launch.outer(dy, hw, k, down, (True, False), route, tiling)
        return dx, None, dw, dup, ddown, None


#: Activations the kernels know, by the names of the functions and modules that compute them.
_ACTS = {
    "silu": "silu",
    "SiLU": "silu",
    "SiLUActivation": "silu",
    "relu": "relu",
    "ReLU": "relu",
    "gelu": "gelu",
}


def _act(act: Any) -> str:
    """Name of an activation the kernels know, else the empty word."""
    if isinstance(act, torch.nn.GELU):
        return "gelu" if act.approximate == "none" else "gelu_tanh"
    name = act.__name__ if hasattr(act, "__name__") else type(act).__name__
    home = getattr(act, "__module__", "") or ""
    known = home.startswith(("torch", "transformers")) or act is torch.nn.functional.gelu
    return _ACTS.get(name, "") if known else ""


def _halves(bank: Bank) -> bool:
    """Whether a gate is act(first half) times second half, or there is none."""
    own = getattr(bank.apply_gate, "__func__", bank.apply_gate)
    name = (getattr(own, "__module__", ""), getattr(own, "__name__", ""))
    return own is None or name == ("transformers.integrations.moe", "_default_apply_gate")


def matrices(bank: Bank) -> tuple[torch.Tensor, torch.Tensor]:
    """A bank's matrices as (e, rows of the first product, d) and (e, d_out, f), as views."""
    if bank.transposed:
        return bank.first.transpose(1, 2), bank.down.transpose(1, 2)
    return bank.first, bank.down


def refusal(x: torch.Tensor, bank: Bank) -> str:
    """Why these kernels cannot do a bank's work on x, or the empty word if they can.

    Parameters
    ----------
    x : Tensor (t, d)
    bank : Bank

    Returns
    -------
    str
    """
    up = bank.first
    if not available():
        return "Triton is not installed"
    if not (x.is_cuda or launch.interpreted()):
        return "the tensors are not on a graphics processor"
    if up.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        return f"the matrices are {up.dtype}"
    if bank.up_bias is not None or bank.down_bias is not None:
        return "the experts have biases"
    if not _halves(bank):
        return "the experts gate in a way of their own"
    if not _act(bank.act):
        return "the activation is none of silu, relu, gelu"
    return ""


def run(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    tiling: _triton_tiles.Tiling | None = None,
) -> torch.Tensor:
    """Weighted sum over the chosen experts, by Triton kernels.

    Parameters
    ----------
    x : Tensor (t, d)
    ids : Tensor (t, k) int64
        Expert of each slot; e means none.
    weights : Tensor (t, k)
    bank : Bank
    tiling : Tiling, optional
        Tiles in place of those that `tune` found, or else of the table's.

    Returns
    -------
    Tensor (t, d_out)

    Raises
    ------
    InputError
        The kernels cannot do this; `refusal` says why.
    MissingExtraError
        Triton is not installed.
    """
    if not available():
        raise MissingExtraError("triton", "torch")
    why = refusal(x, bank)
    if why:
        raise InputError("bank", "fit the Triton kernels", why, 'Use backend="auto".')
    up, down = matrices(bank)
    (t, k), e = ids.shape, down.shape[0]
    wanted = x.dtype
    rows = x.to(up.dtype)
    if rows.stride(-1) != 1:
        rows = rows.contiguous()
    learn = torch.is_grad_enabled() and any(s.requires_grad for s in (rows, weights, up, down))
    if tiling is None:
        key = _key(t * k, bank, learn)
        tiling = _triton_tiles.TUNED.get(key) or _triton_tiles.choose(t * k, e, up.element_size())
    shape = launch.Shape(bank.gated, _act(bank.act), tiling)
    ids, weights = ids.contiguous(), weights.contiguous()
    if t * k == 0:
        return nothing(rows, up, down, weights).to(wanted)
    with launch.guard(x):
        if learn:
            made: torch.Tensor = _Experts.apply(  # type: ignore[no-untyped-call]
                rows, ids, weights, up, down, shape
            )
        elif t == 1:
            made = launch.one_token(rows, ids, weights, up, down, shape)
        else:
            route = launch.route(ids, e, tiling.rows)
            h, _ = launch.inner(rows, k, up, route, shape, save=False)
            made = combine(
                launch.product(h, down, route, shape), route.pos, weights, (t, k), up.dtype
            )
    return made.to(wanted)


def _key(p: int, bank: Bank, learn: bool) -> tuple[object, ...]:
    kind = f"{bank.first.dtype} {'both' if learn else 'forward'}"
    return _triton_tiles.key(p, bank.e, bank.d, bank.f, kind)


def tune(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    tilings: tuple[_triton_tiles.Tiling, ...] = (),
) -> _triton_tiles.Tiling:
    """Time a few tiles on a call and remember the fastest for calls like it in this process.

    Each is compiled first, which takes a second or so. Where a gradient is asked of an input,
    the backward pass is timed as well.

    Parameters
    ----------
    x, ids, weights, bank
        As in `run`.
    tilings : tuple of Tiling, optional
        What to try; a handful near the table's choice if not given.

    Returns
    -------
    Tiling
        The fastest; later calls of `run` use it by themselves.
    """
    p, up = ids.numel(), bank.first
    leaves = [s for s in (x, weights, up, bank.down) if s.requires_grad]
    learn = torch.is_grad_enabled() and bool(leaves)
    tilings = tilings or _triton_tiles.candidates(p, bank.e, up.element_size())
    times: dict[_triton_tiles.Tiling, float] = {}
    for tiling in tilings:

        def once(tiling: _triton_tiles.Tiling = tiling) -> None:
            made = run(x, ids, weights, bank, tiling=tiling)
            if learn:
                torch.autograd.grad(made, leaves, torch.ones_like(made))

        if launch.fits(once):
            times[tiling] = launch.milliseconds(once, x.is_cuda)
    best = min(times, key=lambda tiling: times[tiling])
    _triton_tiles.TUNED[_key(p, bank, learn)] = best
    return best


def nothing(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Zeros (t, d_out) that depend on everything, so that every gradient exists and is zero."""
    zero = x[:0].sum() + up[:0].sum() + down[:0].sum() + weights[:0].sum()
    return x.new_zeros(x.shape[0], down.shape[1]) + zero.to(x.dtype)
