"""Triton kernels of the backward pass of the dispatch; the terms are those of the forward pass."""

from __future__ import annotations

from turnout.nn.dispatch._triton_base import _jit, constexpr, tensor, tl
from turnout.nn.dispatch._triton_kernels import _act, _slope, _spot

__all__: list[str] = []


@_jit()
def _behind(
    q: tensor,
    weight: tensor,
    row: tensor,
    live: tensor,
    n: tensor,
    pre: tensor,
    dpre: tensor,
    hw: tensor,
    f: tensor,
    GATED: constexpr,
    ACT: constexpr,
) -> tensor:
    """Columns n of the terms named in `_back`; returns their share of dc."""
    mask = live[:, None] & (n < f)[None, :]
    at = row.to(tl.int64)[:, None]
    width = 2 * f if GATED else f
    g_at = at * width + n[None, :]
    g = tl.load(pre + g_at, mask=mask, other=0.0).to(tl.float32)
    a = _act(g, ACT)
    made = a
    dg = weight * q * _slope(g, ACT)
    if GATED:
        u = tl.load(pre + g_at + f, mask=mask, other=0.0).to(tl.float32)
        made = a * u
        dg = dg * u
        tl.store(dpre + g_at + f, (weight * q * a).to(dpre.dtype.element_ty), mask=mask)
    tl.store(dpre + g_at, dg.to(dpre.dtype.element_ty), mask=mask)
    tl.store(hw + at * f + n[None, :], (weight * made).to(hw.dtype.element_ty), mask=mask)
    return tl.sum(tl.where(mask, q * made, 0.0), 1)


@_jit("n_m", "p", "k")
def _back(
    dy: tensor,
    weights: tensor,
    order: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    w: tensor,
    pre: tensor,
    dpre: tensor,
    hw: tensor,
    parts: tensor,
    n_m: tensor,
    p: tensor,
    k: tensor,
    d: tensor,
    f: tensor,
    sy: tensor,
    swe: tensor,
    swn: tensor,
    swk: tensor,
    GATED: constexpr,
    ACT: constexpr,
    EVEN: constexpr,
    PRECISION: constexpr,
    BM: constexpr,
    BN: constexpr,
    BK: constexpr,
    GROUP: constexpr,
) -> None:
    """Back through the down product and the activation.

    With q = dy D (f wide), h = act(g) u and the combine weight c of a row::

        dg = c q u act'(g)    du = c q act(g)    hw = c h    dc = sum q h

    `parts` (columns of tiles, p) holds the terms of dc; adding them up later keeps the order.
    """
    n_n = tl.cdiv(f, BN)
    m, n_tile = _spot(tl.program_id(0), n_m, n_n, GROUP)
    expert = tl.load(tile_expert + m)
    if expert < 0:
        return
    end = tl.load(starts + expert + 1)
    row = tl.load(tile_row + m) + tl.arange(0, BM)
    live = row < end
    slot = tl.load(order + tl.minimum(row, end - 1))
    n = n_tile * BN + tl.arange(0, BN)
    kk = tl.arange(0, BK)
    a_at = dy + (slot // k).to(tl.int64)[:, None] * sy + kk[None, :]
    w_at = w + expert.to(tl.int64) * swe + (n % f)[None, :].to(tl.int64) * swn
    w_at += kk[:, None] * swk
    q = tl.zeros([BM, BN], tl.float32)
    for k0 in range(0, d, BK):
        if EVEN:
            lhs = tl.load(a_at)
            rhs = tl.load(w_at)
        else:
            lhs = tl.load(a_at, mask=kk[None, :] < d - k0, other=0.0)
            rhs = tl.load(w_at, mask=kk[:, None] < d - k0, other=0.0)
        q = tl.dot(lhs, rhs, q, input_precision=PRECISION)
        a_at += BK
        w_at += BK * swk
    weight = tl.load(weights + slot).to(tl.float32)[:, None]
    # Two halves one after the other: all of g, u and q at once do not fit the registers.
    left, right = tl.split(tl.permute(tl.reshape(q, (BM, 2, BN // 2)), (0, 2, 1)))
    n = n_tile * BN + tl.arange(0, BN // 2)
    share = _behind(left, weight, row, live, n, pre, dpre, hw, f, GATED, ACT)
    n += BN // 2
    share += _behind(right, weight, row, live, n, pre, dpre, hw, f, GATED, ACT)
    tl.store(parts + n_tile.to(tl.int64) * p + row, share, mask=live)


@_jit("k")
def _outer(
    a: tensor,
    b: tensor,
    order: tensor,
    starts: tensor,
    out: tensor,
    k: tensor,
    n_a: tensor,
    n_b: tensor,
    sa: tensor,
    sb: tensor,
    soe: tensor,
    soa: tensor,
    A_TOKEN: constexpr,
    B_TOKEN: constexpr,
    PRECISION: constexpr,
    BA: constexpr,
    BB: constexpr,
    BR: constexpr,
) -> None:
    """Gradient of each expert's matrix, out (e, n_a, n_b) = A^T B over its rows.

    Written once, no zero fill: an expert without rows gets exact zeros. `A_TOKEN`, `B_TOKEN`
    say that the operand's rows are tokens, gathered as they are read.
    """
    n_tiles = tl.cdiv(n_b, BB)
    expert = tl.program_id(1)
    pid = tl.program_id(0)
    col_a = (pid // n_tiles) * BA + tl.arange(0, BA)
    col_b = (pid % n_tiles) * BB + tl.arange(0, BB)
    begin = tl.load(starts + expert)
    end = tl.load(starts + expert + 1)
    acc = tl.zeros([BA, BB], tl.float32)
    for row0 in range(begin, end, BR):
        row = row0 + tl.arange(0, BR)
        live = row < end
        at_a = row
        at_b = row
        if A_TOKEN or B_TOKEN:
            token = tl.load(order + row, mask=live, other=0) // k
            if A_TOKEN:
                at_a = token
            if B_TOKEN:
                at_b = token
        lhs = tl.load(
            a + at_a.to(tl.int64)[None, :] * sa + col_a[:, None],
            mask=live[None, :] & (col_a < n_a)[:, None],
            other=0.0,
        )
        rhs = tl.load(
            b + at_b.to(tl.int64)[:, None] * sb + col_b[None, :],
            mask=live[:, None] & (col_b < n_b)[None, :],
            other=0.0,
        )
        acc = tl.dot(lhs, rhs, acc, input_precision=PRECISION)
    at = out + expert.to(tl.int64) * soe + col_a[:, None].to(tl.int64) * soa + col_b[None, :]
    mask = (col_a < n_a)[:, None] & (col_b < n_b)[None, :]
    tl.store(at, acc.to(out.dtype.element_ty), mask=mask)
