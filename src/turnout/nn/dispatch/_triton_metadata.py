"""Triton kernels that work out which row a slot is and which tile is whose, on the device.

Rows are slots in the order of their experts; a tile is a run of at most `BM` rows of one expert.
`order (p,)` says which slot a row is, `pos (t, k)` which row a slot is (-1 = none), `starts
(e + 1,)` where an expert's rows begin.
"""

from __future__ import annotations

from turnout.nn.dispatch._triton_base import _jit, constexpr, tensor, tl

__all__: list[str] = []


@_jit()
def _tiles(
    counts: tensor,
    begins: tensor,
    first: tensor,
    n_tiles: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    E: constexpr,
    E_PAD: constexpr,
    BM: constexpr,
    TB: constexpr,
) -> None:
    """Write which expert tiles first * TB ... are of (-1 = none), and where they begin."""
    experts = tl.arange(0, E_PAD)
    if first == 0:
        tl.store(starts + experts, begins, mask=experts <= E)
    tiles = (counts + BM - 1) // BM
    ends = tl.cumsum(tiles, 0)
    tile = first * TB + tl.arange(0, TB)
    expert = tl.sum((ends[None, :] <= tile[:, None]).to(tl.int32), 1)
    mine = expert[:, None] == experts[None, :]
    row = tl.sum(tl.where(mine, begins[None, :] - (ends - tiles)[None, :] * BM, 0), 1) + tile * BM
    tl.store(tile_expert + tile, tl.where(expert < E, expert, -1), mask=tile < n_tiles)
    tl.store(tile_row + tile, row, mask=tile < n_tiles)


@_jit("p", "n_slots", "n_tiles")
def _route(
    ids: tensor,
    order: tensor,
    pos: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    p: tensor,
    n_slots: tensor,
    n_tiles: tensor,
    E: constexpr,
    E_PAD: constexpr,
    BM: constexpr,
    S: constexpr,
    Q: constexpr,
    TB: constexpr,
) -> None:
    """All metadata in one launch: a slot's row is the number of slots that come before it."""
    pid = tl.program_id(0)
    if pid < n_slots:
        slot = pid * S + tl.arange(0, S)
        mine = tl.load(ids + slot, mask=slot < p, other=E).to(tl.int32)
        mine = tl.where((mine < 0) | (mine > E), E, mine)
        row = tl.zeros([S], tl.int32)
        for start in range(0, p, Q):
            q = start + tl.arange(0, Q)
            other = tl.load(ids + q, mask=q < p, other=E).to(tl.int32)
            other = tl.where((other < 0) | (other > E), E, other)
            less = other[None, :] < mine[:, None]
            tied = (other[None, :] == mine[:, None]) & (q[None, :] < slot[:, None])
            row += tl.sum((less | tied).to(tl.int32), 1)
        real = (slot < p) & (mine < E)
        tl.store(order + row, slot, mask=real)
        tl.store(pos + slot, tl.where(mine < E, row, -1), mask=slot < p)
    else:
        experts = tl.arange(0, E_PAD)
        counts = tl.zeros([E_PAD], tl.int32)
        for start in range(0, p, S):
            q = start + tl.arange(0, S)
            other = tl.load(ids + q, mask=q < p, other=-1).to(tl.int32)
            counts += tl.sum((other[:, None] == experts[None, :]).to(tl.int32), 0)
        counts = tl.where(experts < E, counts, 0)
        begins = tl.cumsum(counts, 0) - counts
        _tiles(
            counts,
            begins,
            pid - n_slots,
            n_tiles,
            starts,
            tile_expert,
            tile_row,
            E,
            E_PAD,
            BM,
            TB,
        )


@_jit("p", "chunks")
def _count(
    ids: tensor,
    counts: tensor,
    p: tensor,
    chunks: tensor,
    E: constexpr,
    E_PAD: constexpr,
    C: constexpr,
) -> None:
    """Slots per expert in each chunk of C slots, counts (e, chunks)."""
    pid = tl.program_id(0)
    experts = tl.arange(0, E_PAD)
    slot = pid * C + tl.arange(0, C)
    mine = tl.load(ids + slot, mask=slot < p, other=-1).to(tl.int32)
    found = tl.sum((mine[:, None] == experts[None, :]).to(tl.int32), 0)
    tl.store(counts + experts * chunks + pid, found, mask=experts < E)


@_jit("p", "chunks", "n_tiles")
def _place(
    ids: tensor,
    sums: tensor,
    order: tensor,
    pos: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    p: tensor,
    chunks: tensor,
    n_tiles: tensor,
    E: constexpr,
    E_PAD: constexpr,
    BM: constexpr,
    C: constexpr,
    TB: constexpr,
) -> None:
    """Rows of the slots and the tiles, from the running sums (e * chunks) of the counts."""
    pid = tl.program_id(0)
    if pid < chunks:
        index = tl.arange(0, C)
        slot = pid * C + index
        mine = tl.load(ids + slot, mask=slot < p, other=E).to(tl.int32)
        real = (mine >= 0) & (mine < E)
        mine = tl.where(real, mine, E)
        tied = (mine[None, :] == mine[:, None]) & (index[None, :] < index[:, None])
        rank = tl.sum(tied.to(tl.int32), 1)
        cell = mine * chunks + pid
        row = tl.load(sums + cell - 1, mask=real & (cell > 0), other=0) + rank
        tl.store(order + row, slot, mask=real)
        tl.store(pos + slot, tl.where(real, row, -1), mask=slot < p)
    else:
        experts = tl.arange(0, E_PAD)
        edge = experts * chunks - 1
        begins = tl.load(sums + edge, mask=(experts <= E) & (edge >= 0), other=0)
        ends = tl.load(sums + edge + chunks, mask=experts < E, other=0)
        counts = tl.where(experts < E, ends - begins, 0)
        _tiles(
            counts,
            begins,
            pid - chunks,
            n_tiles,
            starts,
            tile_expert,
            tile_row,
            E,
            E_PAD,
            BM,
            TB,
        )
