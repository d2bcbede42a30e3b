"""Which tiles the Triton kernels use: data, chosen by rows per expert, and what to try instead.

A block is what one program works on: `n` columns, `k` terms of the inner sum per step, `warps`
of 32 threads, `stages` of loads in flight. All products of one call share the height `rows`,
since the metadata is made for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__: list[str] = []


@dataclass(frozen=True)
class Block:
    """Tile of one kernel.

    Parameters
    ----------
    n, k : int
        Columns, terms of the inner sum per step.
    warps, stages : int
        Warps of a program, loads in flight.
    """

    n: int
    k: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiling:
    """Tiles of all kernels of one call.

    Parameters
    ----------
    rows : int
        Rows of a tile.
    group : int
        Tiles of rows that share a pass over the columns, for the sake of the cache.
    up, down, back, outer : Block
        Gate and up product, down product (and the gradient of x), the product behind the
        activation in the backward pass, gradients of matrices (`rows` is then `height`).
    height : int
        Height of the tiles of the gradients of matrices.
    """

    rows: int
    group: int
    up: Block
    down: Block
    back: Block
    outer: Block
    height: int = 128


_SMALL = Block(n=128, k=32, warps=4, stages=3)
_LARGE = Block(n=128, k=64, warps=8, stages=3)

#: (largest mean number of rows per expert, tiles); the last serves everything above.
TABLE: tuple[tuple[float, Tiling], ...] = (
    (
        20.0,
        Tiling(
            rows=16,
            group=1,
            up=Block(n=32, k=128, warps=4, stages=4),
            down=Block(n=32, k=128, warps=4, stages=4),
            back=Block(n=64, k=64, warps=4, stages=4),
            outer=_SMALL,
            height=64,
        ),
    ),
    (
        40.0,
        Tiling(
            rows=32,
            group=1,
            up=Block(n=64, k=128, warps=4, stages=3),
            down=Block(n=64, k=128, warps=4, stages=4),
            back=Block(n=64, k=64, warps=4, stages=4),
            outer=_SMALL,
            height=64,
        ),
    ),
    (
        160.0,
        Tiling(
            rows=64,
            group=4,
            up=Block(n=64, k=64, warps=4, stages=4),
            down=Block(n=128, k=64, warps=4, stages=4),
            back=Block(n=128, k=64, warps=4, stages=4),
            outer=_LARGE,
        ),
    ),
    (
        float("inf"),
        Tiling(
            rows=128,
            group=8,
            up=Block(n=128, k=64, warps=8, stages=4),
            down=Block(n=256, k=64, warps=8, stages=3),
            back=Block(n=128, k=64, warps=8, stages=4),
            outer=Block(n=256, k=64, warps=8, stages=3),
        ),
    ),
)

#: One token: columns and terms of a program that streams a matrix without tensor cores.
SLOT = Block(n=8, k=1024, warps=4, stages=1)

#: fp32 runs on plain multiply-add units: smaller tiles, or the registers spill.
_FULL = Tiling(
    rows=32,
    group=4,
    up=Block(n=32, k=32, warps=4, stages=2),
    down=Block(n=64, k=32, warps=4, stages=2),
    back=Block(n=32, k=32, warps=4, stages=2),
    outer=Block(n=32, k=32, warps=4, stages=2),
    height=32,
)


#: What `turnout.nn.dispatch.triton.tune` found faster than the table, by `key`.
TUNED: dict[tuple[object, ...], Tiling] = {}


def key(p: int, e: int, d: int, f: int, kind: str) -> tuple[object, ...]:
    """What tiles depend on: widths, experts, rows per expert up to the next power of two."""
    return (e, d, f, (p // e).bit_length(), kind)


def candidates(p: int, e: int, itemsize: int) -> tuple[Tiling, ...]:
    """The table's choice first, its neighbours in the table, and small changes of it."""
    chosen = choose(p, e, itemsize)
    if itemsize > 2:
        return (chosen, replace(chosen, group=1), replace(chosen, group=8))
    rows = [tiling for _, tiling in TABLE]
    spot = rows.index(chosen)
    near = rows[max(spot - 1, 0) : spot + 2]
    up, down = chosen.up, chosen.down
    changed = (
        replace(chosen, up=replace(up, stages=up.stages - 1)),
        replace(chosen, up=replace(up, n=2 * up.n) if up.n < 128 else replace(up, n=64)),
        replace(chosen, down=replace(down, n=2 * down.n) if down.n < 256 else replace(down, n=128)),
        replace(chosen, group=1 if chosen.group > 1 else 8),
    )
    return (chosen, *(tiling for tiling in near if tiling != chosen), *changed)


def choose(p: int, e: int, itemsize: int) -> Tiling:
    """Tiles of the table for p slots on e experts of numbers of so many bytes."""
    if itemsize > 2:
        return _FULL if p > 16 * e else replace(_FULL, rows=16)
    mean = p / e
    return next(tiling for bound, tiling in TABLE if mean <= bound)
