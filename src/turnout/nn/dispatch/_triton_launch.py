"""Launches of the Triton kernels: grids, tiles and what is allocated."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from turnout.core.errors import MissingExtraError
from turnout.nn.dispatch import _triton_tiles

__all__: list[str] = []

_CHUNK = 128
_ONE_LAUNCH = 4096
_CELLS = 8192


@dataclass(frozen=True)
class Route:
    """Where the slots go: see `turnout.nn.dispatch._triton_metadata`."""

    order: torch.Tensor
    pos: torch.Tensor
    starts: torch.Tensor
    tile_expert: torch.Tensor
    tile_row: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """What of a call is no tensor."""

    gated: bool
    act: str
    tiling: _triton_tiles.Tiling


def available() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs on the host, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def module(name: str) -> Any:
    """One of the modules of kernels; Triton is imported with the first."""
    if not available():
        raise MissingExtraError("triton", "torch")
    return importlib.import_module(f"turnout.nn.dispatch._triton_{name}")


def guard(x: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device; make it that of the tensors."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return contextlib.nullcontext()


def fits(call: Callable[[], None]) -> bool:
    """Run once, compiling what it needs; false if the tiles ask for more memory than there is."""
    try:
        call()
    except importlib.import_module("triton.runtime.errors").OutOfResources:
        return False
    return True


def milliseconds(call: Callable[[], None], cuda: bool) -> float:
    """Least time of three blocks of three calls, per call."""
    found = []
    for _ in range(3):
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(3):
            call()
        if cuda:
            torch.cuda.synchronize()
        found.append((time.perf_counter() - began) / 3e-3)
    return min(found)


def _pad(n: int) -> int:
    """The least power of two that is at least n and 16."""
    return max(16, 1 << (n - 1).bit_length())


def cdiv(n: int, by: int) -> int:
    """Quotient, rounded up."""
    return -(-n // by)


def route(ids: torch.Tensor, e: int, rows: int) -> Route:
    """Metadata for slots ids (t, k), in one launch or, when many, in three."""
    kernels = module("metadata")
    p = ids.numel()
    n_tiles = p // rows + min(p, e)
    # One allocation each: parts of a common one begin anywhere, and Triton compiles by alignment.
    order, pos, starts, tile_expert, tile_row = (
        torch.empty(size, dtype=torch.int32, device=ids.device)
        for size in (p, p, e + 1, n_tiles, n_tiles)
    )
    made = Route(order, pos, starts, tile_expert, tile_row)
    pad = _pad(e + 1)
    chunk = max(16, min(_CHUNK, 2 * _CELLS // pad))
    block = max(16, min(64, _CELLS // pad))
    tail = cdiv(n_tiles, block)
    if p <= _ONE_LAUNCH:
        height = max(16, min(32, _CELLS // pad))
        n_slots = cdiv(p, height)
        kernels._route[(n_slots + tail,)](
            ids, order, pos, starts, tile_expert, tile_row, p, n_slots, n_tiles,
            E=e, E_PAD=pad, BM=rows, S=height, Q=128, TB=block,
        )  # fmt: skip
        return made
    chunks = cdiv(p, chunk)
    counts = torch.empty(e * chunks, dtype=torch.int32, device=ids.device)
    kernels._count[(chunks,)](ids, counts, p, chunks, E=e, E_PAD=pad, C=chunk)
    sums = torch.cumsum(counts, 0, dtype=torch.int32)
    kernels._place[(chunks + tail,)](
        ids, sums, order, pos, starts, tile_expert, tile_row, p, chunks, n_tiles,
        E=e, E_PAD=pad, BM=rows, C=chunk, TB=block,
    )  # fmt: skip
    return made


def inner(
    x: torch.Tensor, k: int, up: torch.Tensor, route: Route, shape: Shape, save: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner rows h (p, f), and what went into the activation when it is to be saved."""
    f = up.shape[1] // 2 if shape.gated else up.shape[1]
    p = route.order.numel()
    block, tiling = shape.tiling.up, shape.tiling
    h = torch.empty(p, f, dtype=x.dtype, device=x.device)
    pre = torch.empty(p, up.shape[1], dtype=x.dtype, device=x.device) if save else h
    n_m = route.tile_expert.numel()
    module("kernels")._up[(n_m * cdiv(f, block.n),)](
        x, route.order, route.starts, route.tile_expert, route.tile_row,
        up, up[:, f:] if shape.gated else up, h, pre, n_m, k, x.shape[1], f,
        x.stride(0), *up.stride(),
        GATED=shape.gated, ACT=shape.act, SAVE=save, EVEN=x.shape[1] % block.k == 0,
        PRECISION="ieee", BM=tiling.rows, BN=block.n, BK=block.k, GROUP=tiling.group,
        num_warps=block.warps, num_stages=block.stages,
    )  # fmt: skip
    return h, pre


def product(a: torch.Tensor, w: torch.Tensor, route: Route, shape: Shape) -> torch.Tensor:
    """Rows a (p, n_in) times the matrices w (e, n_out, n_in), transposed: (p, n_out)."""
    block, tiling = shape.tiling.down, shape.tiling
    n_out, n_in = w.shape[1:]
    out = torch.empty(a.shape[0], n_out, dtype=a.dtype, device=a.device)
    n_m = route.tile_expert.numel()
    module("kernels")._rows[(n_m * cdiv(n_out, block.n),)](
        a, route.starts, route.tile_expert, route.tile_row, w, out, n_m, n_out, n_in,
        *w.stride(),
        EVEN=n_in % block.k == 0, PRECISION="ieee",
        BM=tiling.rows, BN=block.n, BK=block.k, GROUP=tiling.group,
        num_warps=block.warps, num_stages=block.stages,
    )  # fmt: skip
    return out


def combine(
    rows: torch.Tensor,
    pos: torch.Tensor,
    weights: torch.Tensor | None,
    shape: tuple[int, int],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Sum rows (p, d) over the slots of each token, weighted or not.

    Parameters
    ----------
    rows : Tensor (p, d)
    pos : Tensor (t * k,) int32
        Row of a slot, -1 = none.
    weights : Tensor (t, k), optional
    shape : (t, k)
    dtype : torch.dtype
        Of the answer; the sum itself is in fp32.

    Returns
    -------
    Tensor (t, d)
    """
    t, k = shape
    d = rows.shape[1]
    out = torch.empty(t, d, dtype=dtype, device=rows.device)
    width = min(1024 if t >= 128 else 256, _pad(d))
    module("kernels")._combine[(t, cdiv(d, width))](
        rows, pos, pos if weights is None else weights, out, d,
        K=k, WEIGHTED=weights is not None, BD=width, num_warps=4,
    )  # fmt: skip
    return out


def outer(
    a: torch.Tensor,
    b: torch.Tensor,
    k: int,
    like: torch.Tensor,
    tokens: tuple[bool, bool],
    route: Route,
    tiling: _triton_tiles.Tiling,
) -> torch.Tensor:
    """Gradients A^T B per expert, in the memory layout of the matrices `like` (e, n_a, n_b)."""
    flip = like.stride(1) == 1 and like.stride(2) != 1
    out = torch.empty_like(like.transpose(1, 2), memory_format=torch.contiguous_format)
    if flip:
        a, b, tokens = b, a, (tokens[1], tokens[0])
    else:
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
    block = tiling.outer
    e, n_a, n_b = out.shape
    grid = (cdiv(n_a, tiling.height) * cdiv(n_b, block.n), e)
    module("backward")._outer[grid](
        a, b, route.order, route.starts, out, k, n_a, n_b, a.stride(0), b.stride(0),
        out.stride(0), out.stride(1),
        A_TOKEN=tokens[0], B_TOKEN=tokens[1], PRECISION="ieee",
        BA=tiling.height, BB=block.n, BR=block.k,
        num_warps=block.warps, num_stages=block.stages,
    )  # fmt: skip
    return out.transpose(1, 2) if flip else out


def one_token(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    shape: Shape,
) -> torch.Tensor:
    """Two launches: every slot streams its expert's matrices, without metadata."""
    t, k = ids.shape
    e, d, f = down.shape
    h = torch.empty(t * k, f, dtype=torch.float32, device=x.device)
    out = torch.empty(t, d, dtype=x.dtype, device=x.device)
    tile = _triton_tiles.SLOT
    kernels = module("kernels")
    wide = min(tile.k, _pad(x.shape[1]))
    kernels._slot_up[(t * k, cdiv(f, tile.n))](
        x, ids, up, up[:, f:] if shape.gated else up, h, k, x.shape[1], f, x.stride(0),
        *up.stride(),
        E=e, GATED=shape.gated, ACT=shape.act, BN=tile.n, BK=wide,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    kernels._slot_down[(t, cdiv(d, tile.n))](
        h, ids, weights, down, out, d, f, *down.stride(),
        E=e, K=k, BN=tile.n, BK=min(tile.k, _pad(f)),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out
