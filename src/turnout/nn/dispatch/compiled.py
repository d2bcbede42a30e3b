"""Matrices gathered slot by slot, compiled: the gather is fused into the product.

::

    z[s] = G[e(s)] x[token(s)],   y[s] = D[e(s)] gate(z[s]),   out[t] = sum_j weights[t, j] y[t, j]

Without a compiler this form copies two matrices a slot and is the slowest there is. Compiled by
torch's inductor no copy is made, but each slot reads its matrices anew, so that it suits about as
many slots as experts. Compiling takes from ten seconds to minutes for each class of shapes, for
which reason nothing chooses this path by itself: see `turnout.nn.dispatch.choose`.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import Any

import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import _kinds, sorted
from turnout.nn.dispatch.bank import Bank
from turnout.nn.dispatch.native import _build

__all__ = ["MOST_SLOTS", "refusal", "run"]

#: More slots than this would read gigabytes.
MOST_SLOTS = 4096
_Function = Callable[..., torch.Tensor]
_CACHE: dict[tuple[Any, ...], _Function] = {}
_LOCK = threading.Lock()


def refusal(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> str:
    """Why this cannot be done compiled, or the empty word if it can."""
    if _kinds.learns(x, weights, bank):
        return "gradients are asked for"
    if x.device.type == "cpu" and _build.compiler() is None:
        return "there is no compiler"
    if ids.numel() > MOST_SLOTS:
        return f"there are {ids.numel()} slots"
    return ""


def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Weighted sum over the chosen experts, without gradients.

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
        Gradients are asked for, there is no compiler, or there are more than `MOST_SLOTS` slots.
    """
    why = refusal(x, ids, weights, bank)
    if why:
        raise InputError("backend", "be able to compile", why, 'Use backend="auto".')
    route = sorted.plan(ids, bank.e)
    if not route.rows:
        return x.new_zeros(len(x), bank.d_out)
    # slots of no expert are left out; the rest is filled up to a power of two, a class of shapes
    size = 1 << (route.rows - 1).bit_length()
    order = route.order.sort().values
    slots = torch.cat([order, order[:1].expand(size - route.rows)])
    token = slots // ids.shape[1]
    expert = ids.reshape(-1)[slots]
    dtype = bank.first.dtype
    shapes = (size, dtype, bank.d, bank.f, bank.d_out, bank.transposed, x.device)
    gates = (bank.act, bank.apply_gate, bank.gated, bank.up_bias is None, bank.down_bias is None)
    function = _compiled((*shapes, *gates, torch.get_num_threads()))
    with torch.no_grad():
        made = function(x.to(dtype), token, expert, bank)[: route.rows]
        exact = torch.promote_types(dtype, torch.float32)
        scale = weights.reshape(-1)[order].to(exact).unsqueeze(1)
        total = torch.zeros((len(x), bank.d_out), dtype=exact, device=x.device)
        return total.index_add_(0, order // ids.shape[1], made.to(exact) * scale).to(x.dtype)


def _compiled(key: tuple[Any, ...]) -> _Function:
    """A function of its own for each class, so that one class never recompiles another's."""
    found = _CACHE.get(key)
    if found is None:
        with _LOCK:
            if key not in _CACHE:
                code = _gathered.__code__.replace(co_name=f"gathered_{len(_CACHE)}")
                own = types.FunctionType(code, _gathered.__globals__)
                _CACHE[key] = torch.compile(own, dynamic=False)
        found = _CACHE[key]
    return found


def _gathered(
    x: torch.Tensor, token: torch.Tensor, expert: torch.Tensor, bank: Bank
) -> torch.Tensor:
    """What each slot's expert makes of its row, (s, d_out)."""
    up, down = bank.first[expert], bank.down[expert]
    if bank.transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)
    z = torch.bmm(up, x[token].unsqueeze(2)).squeeze(2)
    if bank.up_bias is not None:
        z = z + bank.up_bias[expert]
    made = torch.bmm(down, bank.gate(z).unsqueeze(2)).squeeze(2)
    if bank.down_bias is not None:
        made = made + bank.down_bias[expert]
    return made
