"""Kernels of our own, built once on the machine that runs them, for float32 and bfloat16 experts.

A product of libraries is made for many rows; experts mostly have few. Three things make the
difference, and all are about memory:

- The matrices of an expert are read once for all of its rows, and read in several streams far
  apart, which is what memory delivers fastest.
- Rows are laid out in panels of sixteen, feature by feature, so that the matrices need neither
  packing nor transposing; gate, activation and the second product follow without leaving the cache.
- A gradient of a matrix is written once. Experts without rows cost nothing at all: their zeros are
  pages that do not exist yet.

Matrices of bfloat16 are widened as they are read; all sums are in float32.

The kernels come as C++ source and are compiled when first asked for, with the compiler at hand
and for the processor at hand, into a cache folder (`TURNOUT_CACHE`, or `turnout` in the user's
cache folder). That takes some ten seconds, once. `TURNOUT_NATIVE=0` forbids it. Without a
compiler other paths take over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from turnout.core.errors import InputError
from turnout.nn.dispatch import _kinds, _memory
from turnout.nn.dispatch.bank import Bank
from turnout.nn.dispatch.native import _build, _call

__all__ = ["available", "refusal", "run"]

_TYPES = (torch.float32, torch.bfloat16)


def available() -> bool:
    """Whether the kernels are built, building them now if they never were."""
    return _build.library() is not None


def refusal(x: torch.Tensor, bank: Bank, *, learn: bool = False) -> str:
    """Why these kernels cannot do a bank's work, or the empty word if they can.

    Parameters
    ----------
    x : tensor (t, d)
    bank : Bank
    learn : bool
        Whether gradients will be asked for.

    Returns
    -------
    str
    """
    first, down = bank.first, bank.down
    if x.device.type != "cpu":
        return "the tensors are not in this process's memory"
    if first.dtype not in _TYPES or down.dtype != first.dtype:
        return f"the matrices are {first.dtype} and {down.dtype}"
    if not _kinds.plain(first, down, bank.up_bias, bank.down_bias) or bank.transposed:
        return "the matrices are not contiguous rows of one output each"
    if any(
        bias is not None and bias.dtype != first.dtype for bias in (bank.up_bias, bank.down_bias)
    ):
        return "biases and matrices differ in type"
    if not _kinds.kind(bank.act) or not _kinds.halves(bank):
        return "the activation or the gate is none of those known"
    if learn and (bank.d % 16 or bank.f % 16 or bank.d_out % 16):
        return "the widths are no multiples of 16"
    return ""


def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Weighted sum over the chosen experts.

    Equal calls give equal bits for one number of threads; gradients can be taken once, not twice.

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

    Raises
    ------
    InputError
        The kernels cannot do this or were not built, or an expert number lies outside 0 to e.
    """
    learn = _kinds.learns(x, weights, bank)
    why = refusal(x, bank, learn=learn)
    if not why and not available():
        why = "no kernels were built: there is no compiler, or TURNOUT_NATIVE=0 is set"
    if why:
        raise InputError("bank", "fit the native kernels", why, 'Use backend="auto".')
    if learn:
        made: torch.Tensor = _Experts.apply(  # type: ignore[no-untyped-call]
            x, weights, bank.first, bank.down, bank.up_bias, bank.down_bias, ids, bank
        )
        return made
    layer = _call.Layer.of(bank)
    rows, scale = _floats(x), _floats(weights)
    route = _call.plan(ids, layer.e)
    return _call.forward(rows, scale, route, layer, keep=False)[0].to(x.dtype)


def _floats(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers as contiguous floats, without their history."""
    return tensor.detach().to(torch.float32).contiguous()


class _Experts(torch.autograd.Function):
    """The whole layer as one node: it keeps the values before the activation and little else."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weights: torch.Tensor,
        first: torch.Tensor,
        down: torch.Tensor,
        up_bias: torch.Tensor | None,
        down_bias: torch.Tensor | None,
        ids: torch.Tensor,
        bank: Bank,
    ) -> torch.Tensor:
        """Weighted sum (t, d_out)."""
        layer = _call.Layer.of(bank)
        route = _call.plan(ids, layer.e)
        made, kept = _call.forward(_floats(x), _floats(weights), route, layer, keep=True)
        ctx.save_for_backward(
            x, weights, first, down, up_bias, down_bias, route.offsets, route.order, kept
        )
        ctx.layer, ctx.rows = layer.without_tensors(), route.rows
        return made.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of whatever asks for one."""
        x, weights, first, down, up_bias, down_bias, offsets, order, kept = ctx.saved_tensors
        layer: _call.Layer = ctx.layer.with_tensors(first, down, up_bias, down_bias)
        needs = ctx.needs_input_grad
        (t, d), k, e = x.shape, weights.shape[1], first.shape[0]
        gradients = _call.Gradients(
            dx=torch.zeros(t, d) if needs[0] else None,
            dweights=torch.zeros(t, k) if needs[1] else None,
            dup=_memory.zeros(tuple(first.shape), first.dtype) if needs[2] else None,
            ddown=_memory.zeros(tuple(down.shape), down.dtype) if needs[3] else None,
            dup_bias=torch.zeros(e, first.shape[1]) if needs[4] else None,
            ddown_bias=torch.zeros(e, down.shape[1]) if needs[5] else None,
        )
        route = _call.Route(offsets, order, ctx.rows, k)
        _call.backward(_floats(x), _floats(weights), route, layer, kept, _floats(dy), gradients)
        return (
            _like(gradients.dx, x),
            _like(gradients.dweights, weights),
            gradients.dup,
            gradients.ddown,
            _like(gradients.dup_bias, up_bias),
            _like(gradients.ddown_bias, down_bias),
            None,
            None,
        )


def _like(gradient: torch.Tensor | None, source: torch.Tensor | None) -> torch.Tensor | None:
    return None if gradient is None or source is None else gradient.to(source.dtype)
