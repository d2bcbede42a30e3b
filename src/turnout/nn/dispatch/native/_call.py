"""The C interface of the kernels, as Python sees it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import _kinds, _memory
from turnout.nn.dispatch.bank import Bank
from turnout.nn.dispatch.native import _build

#: The numbers of simd.h.
_ACTS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "relu2": 4}

_NUMBERS = ("t", "k", "d", "e", "f", "out", "gated", "act", "half", "threads")
_POINTERS = (
    "offsets",
    "order",
    "x",
    "weights",
    "up",
    "down",
    "up_bias",
    "down_bias",
    "y",
    "saved",
    "dy",
    "dx",
    "dweights",
    "dup",
    "ddown",
    "dup_bias",
    "ddown_bias",
)


class _Job(ctypes.Structure):
    """Mirrors `Job` of layer.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


@dataclass(frozen=True, eq=False)
class Layer:
    """A bank as the kernels read it."""

    e: int
    d: int
    f: int
    d_out: int
    gated: bool
    act: int
    half: bool
    up: torch.Tensor | None
    down: torch.Tensor | None
    up_bias: torch.Tensor | None
    down_bias: torch.Tensor | None

    @classmethod
    def of(cls, bank: Bank) -> Layer:
        """The layer of a bank that the kernels did not refuse."""
        down = bank.down
        e, d_out, f = down.shape
        return cls(
            e=e,
            d=bank.first.shape[2],
            f=f,
            d_out=d_out,
            gated=bank.gated,
            act=_ACTS[_kinds.kind(bank.act)],
            half=down.dtype == torch.bfloat16,
            up=bank.first,
            down=down,
            up_bias=bank.up_bias,
            down_bias=bank.down_bias,
        )

    def without_tensors(self) -> Layer:
        """The numbers alone."""
        return replace(self, up=None, down=None, up_bias=None, down_bias=None)

    def with_tensors(
        self,
        up: torch.Tensor,
        down: torch.Tensor,
        up_bias: torch.Tensor | None,
        down_bias: torch.Tensor | None,
    ) -> Layer:
        """The same numbers with matrices."""
        return replace(self, up=up, down=down, up_bias=up_bias, down_bias=down_bias)

    @property
    def wide(self) -> int:
        """Rows of the first matrix."""
        return self.f * (2 if self.gated else 1)


@dataclass(frozen=True, eq=False)
class Route:
    """Slots by expert: `offsets` (e + 1), `order` (t * k), rows with padding, choices a token."""

    offsets: torch.Tensor
    order: torch.Tensor
    rows: int
    k: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Gradients:
    """Where each gradient goes, zeros before; None = not wanted. All but dup, ddown are float."""

    dx: torch.Tensor | None
    dweights: torch.Tensor | None
    dup: torch.Tensor | None
    ddown: torch.Tensor | None
    dup_bias: torch.Tensor | None
    ddown_bias: torch.Tensor | None


def plan(ids: torch.Tensor, e: int) -> Route:
    """Sort slots by expert; refuses numbers outside 0 to e."""
    ids = ids.to(torch.int64).contiguous()
    slots = ids.numel()
    room = torch.empty(e + 1 + slots, dtype=torch.int32)
    offsets, order = room[: e + 1], room[e + 1 :]
    rows = _build.loaded().turnout_plan(
        ids.data_ptr(), slots, e, offsets.data_ptr(), order.data_ptr()
    )
    if rows < 0:
        low, high = int(ids.min()), int(ids.max())
        wrong = low if low < 0 else high
        raise InputError("ids", f"lie in [0, {e}]", wrong, f"{e} stands for no expert.")
    return Route(offsets, order, rows, ids.shape[1])


def forward(
    x: torch.Tensor, weights: torch.Tensor, route: Route, layer: Layer, *, keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer (t, d_out) in float, and the values before the activation if they are kept."""
    y = torch.zeros(x.shape[0], layer.d_out)
    # mapped where it is large: fresh pages of the common size would cost more than the arithmetic
    kept = _memory.zeros((route.rows * layer.wide if keep else 0,), torch.float32)
    job = _job(x, weights, route, layer)
    job.y = y.data_ptr()
    job.saved = kept.data_ptr() if keep else None
    if route.rows:
        _check(_build.loaded().turnout_forward(ctypes.byref(job)))
    return y, kept


def backward(
    x: torch.Tensor,
    weights: torch.Tensor,
    route: Route,
    layer: Layer,
    kept: torch.Tensor,
    dy: torch.Tensor,
    gradients: Gradients,
) -> None:
    """Fill the gradients."""
    job = _job(x, weights, route, layer)
    job.saved, job.dy = kept.data_ptr(), dy.data_ptr()
    for name in ("dx", "dweights", "dup", "ddown", "dup_bias", "ddown_bias"):
        setattr(job, name, _pointer(getattr(gradients, name)))
    if route.rows:
        _check(_build.loaded().turnout_backward(ctypes.byref(job)))


def _job(x: torch.Tensor, weights: torch.Tensor, route: Route, layer: Layer) -> _Job:
    t, d = x.shape
    return _Job(
        t,
        route.k,
        d,
        layer.e,
        layer.f,
        layer.d_out,
        layer.gated,
        layer.act,
        layer.half,
        torch.get_num_threads(),
        route.offsets.data_ptr(),
        route.order.data_ptr(),
        x.data_ptr(),
        weights.data_ptr(),
        _pointer(layer.up),
        _pointer(layer.down),
        _pointer(layer.up_bias),
        _pointer(layer.down_bias),
    )


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _check(code: int) -> None:
    if code:
        raise MemoryError("the native kernels could not get the memory they work in")
