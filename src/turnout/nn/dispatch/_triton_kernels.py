"""Triton kernels of the forward pass: products of an expert's rows, sums over a token's slots.

Names as in `turnout.nn.dispatch._triton_metadata`. Offsets of rows are 64-bit, so that no size
overflows.
"""

from __future__ import annotations

from turnout.nn.dispatch._triton_base import _jit, constexpr, tensor, tl

__all__: list[str] = []


@_jit()
def _spot(pid: tensor, n_m: tensor, n_n: tensor, GROUP: constexpr) -> tensor:
    """Tile (m, n) of a program: GROUP tiles of rows share a pass over the columns."""
    width = GROUP * n_n
    first = (pid // width) * GROUP
    size = tl.minimum(n_m - first, GROUP)
    inner = pid % width
    return first + inner % size, inner // size


@_jit()
def _act(z: tensor, ACT: constexpr) -> tensor:
    """The activation."""
    if ACT == "silu":
        a = z * tl.sigmoid(z)
    elif ACT == "relu":
        a = tl.maximum(z, 0.0)
    elif ACT == "gelu":
        a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    else:
        a = z * tl.sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
    return a


@_jit()
def _slope(z: tensor, ACT: constexpr) -> tensor:
    """Derivative of the activation."""
    if ACT == "silu":
        s = tl.sigmoid(z)
        a = s * (1.0 + z * (1.0 - s))
    elif ACT == "relu":
        a = tl.where(z > 0, 1.0, 0.0)
    elif ACT == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        a = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * density
    else:
        s = tl.sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
        a = s + z * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * z * z)
    return a


@_jit("n_m", "k")
def _up(
    x: tensor,
    order: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    gate: tensor,
    up: tensor,
    h: tensor,
    pre: tensor,
    n_m: tensor,
    k: tensor,
    d: tensor,
    f: tensor,
    sx: tensor,
    swe: tensor,
    swn: tensor,
    swk: tensor,
    GATED: constexpr,
    ACT: constexpr,
    SAVE: constexpr,
    EVEN: constexpr,
    PRECISION: constexpr,
    BM: constexpr,
    BN: constexpr,
    BK: constexpr,
    GROUP: constexpr,
) -> None:
    """Inner rows, h (p, f) = act(x G^T) * (x U^T); rows of x are gathered as they are read."""
    n_n = tl.cdiv(f, BN)
    m, n_tile = _spot(tl.program_id(0), n_m, n_n, GROUP)
    expert = tl.load(tile_expert + m)
    if expert < 0:
        return
    row0 = tl.load(tile_row + m)
    end = tl.load(starts + expert + 1)
    row = row0 + tl.arange(0, BM)
    live = row < end
    slot = tl.load(order + tl.minimum(row, end - 1))
    n = n_tile * BN + tl.arange(0, BN)
    kk = tl.arange(0, BK)
    a_at = x + (slot // k).to(tl.int64)[:, None] * sx + kk[None, :]
    w_at = expert.to(tl.int64) * swe + (n % f)[None, :].to(tl.int64) * swn + kk[:, None] * swk
    g_at = gate + w_at
    u_at = up + w_at
    g = tl.zeros([BM, BN], tl.float32)
    u = tl.zeros([BM, BN], tl.float32)
    for k0 in range(0, d, BK):
        if EVEN:
            a = tl.load(a_at)
            wg = tl.load(g_at)
        else:
            a = tl.load(a_at, mask=kk[None, :] < d - k0, other=0.0)
            wg = tl.load(g_at, mask=kk[:, None] < d - k0, other=0.0)
        g = tl.dot(a, wg, g, input_precision=PRECISION)
        if GATED:
            if EVEN:  # noqa: SIM108 - Triton compiles the branch away, not an expression
                wu = tl.load(u_at)
            else:
                wu = tl.load(u_at, mask=kk[:, None] < d - k0, other=0.0)
            u = tl.dot(a, wu, u, input_precision=PRECISION)
            u_at += BK * swk
        a_at += BK
        g_at += BK * swk
    out = live[:, None] & (n < f)[None, :]
    at = row.to(tl.int64)[:, None]
    made = _act(g, ACT)
    if GATED:
        made = made * u
    tl.store(h + at * f + n[None, :], made.to(h.dtype.element_ty), mask=out)
    if SAVE:
        width = 2 * f if GATED else f
        tl.store(pre + at * width + n[None, :], g.to(pre.dtype.element_ty), mask=out)
        if GATED:
            tl.store(pre + at * width + f + n[None, :], u.to(pre.dtype.element_ty), mask=out)


@_jit("n_m")
def _rows(
    a: tensor,
    starts: tensor,
    tile_expert: tensor,
    tile_row: tensor,
    w: tensor,
    out: tensor,
    n_m: tensor,
    n_out: tensor,
    n_in: tensor,
    swe: tensor,
    swn: tensor,
    swk: tensor,
    EVEN: constexpr,
    PRECISION: constexpr,
    BM: constexpr,
    BN: constexpr,
    BK: constexpr,
    GROUP: constexpr,
) -> None:
    """Each expert's rows times its matrix: out (p, n_out) = a (p, n_in) W[expert]."""
    n_n = tl.cdiv(n_out, BN)
    m, n_tile = _spot(tl.program_id(0), n_m, n_n, GROUP)
    expert = tl.load(tile_expert + m)
    if expert < 0:
        return
    row = tl.load(tile_row + m) + tl.arange(0, BM)
    end = tl.load(starts + expert + 1)
    n = n_tile * BN + tl.arange(0, BN)
    kk = tl.arange(0, BK)
    a_at = a + tl.minimum(row, end - 1).to(tl.int64)[:, None] * n_in + kk[None, :]
    w_at = w + expert.to(tl.int64) * swe + (n % n_out)[None, :].to(tl.int64) * swn
    w_at += kk[:, None] * swk
    acc = tl.zeros([BM, BN], tl.float32)
    for k0 in range(0, n_in, BK):
        if EVEN:
            lhs = tl.load(a_at)
            rhs = tl.load(w_at)
        else:
            lhs = tl.load(a_at, mask=kk[None, :] < n_in - k0, other=0.0)
            rhs = tl.load(w_at, mask=kk[:, None] < n_in - k0, other=0.0)
        acc = tl.dot(lhs, rhs, acc, input_precision=PRECISION)
        a_at += BK
        w_at += BK * swk
    mask = (row < end)[:, None] & (n < n_out)[None, :]
    at = row.to(tl.int64)[:, None] * n_out + n[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=mask)


@_jit()
def _combine(
    rows: tensor,
    pos: tensor,
    weights: tensor,
    out: tensor,
    d: tensor,
    K: constexpr,
    WEIGHTED: constexpr,
    BD: constexpr,
) -> None:
    """Sum over a token's slots, out (t, d), in the order of the slots and in fp32."""
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BD + tl.arange(0, BD)
    acc = tl.zeros([BD], tl.float32)
    for j in tl.static_range(K):
        row = tl.load(pos + token * K + j)
        part = tl.load(rows + row.to(tl.int64) * d + n, mask=(n < d) & (row >= 0), other=0.0)
        part = part.to(tl.float32)
        if WEIGHTED:
            weight = tl.load(weights + token * K + j).to(tl.float32)
            part = part * tl.where(row >= 0, weight, 0.0)
        acc += part
    tl.store(out + token * d + n, acc.to(out.dtype.element_ty), mask=n < d)


@_jit("k")
def _slot_up(
    x: tensor,
    ids: tensor,
    gate: tensor,
    up: tensor,
    h: tensor,
    k: tensor,
    d: tensor,
    f: tensor,
    sx: tensor,
    swe: tensor,
    swn: tensor,
    swk: tensor,
    E: constexpr,
    GATED: constexpr,
    ACT: constexpr,
    BN: constexpr,
    BK: constexpr,
) -> None:
    """Inner row of one slot, h (p, f) in fp32: products without tensor cores, no metadata."""
    slot = tl.program_id(0)
    expert = tl.load(ids + slot)
    if (expert < 0) | (expert >= E):
        return
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    kk = tl.arange(0, BK)
    x_at = x + (slot // k).to(tl.int64) * sx + kk
    w_at = expert.to(tl.int64) * swe + (n % f)[:, None].to(tl.int64) * swn + kk[None, :] * swk
    g = tl.zeros([BN, BK], tl.float32)
    u = tl.zeros([BN, BK], tl.float32)
    for k0 in range(0, d, BK):
        mask = kk < d - k0
        a = tl.load(x_at + k0, mask=mask, other=0.0).to(tl.float32)
        step = w_at + k0 * swk
        wg = tl.load(gate + step, mask=mask[None, :], other=0.0)
        if GATED:
            wu = tl.load(up + step, mask=mask[None, :], other=0.0)
            u += wu.to(tl.float32) * a[None, :]
        g += wg.to(tl.float32) * a[None, :]
    made = _act(tl.sum(g, 1), ACT)
    if GATED:
        made = made * tl.sum(u, 1)
    tl.store(h + slot.to(tl.int64) * f + n, made, mask=n < f)


@_jit()
def _slot_down(
    h: tensor,
    ids: tensor,
    weights: tensor,
    w: tensor,
    out: tensor,
    d: tensor,
    f: tensor,
    swe: tensor,
    swn: tensor,
    swk: tensor,
    E: constexpr,
    K: constexpr,
    BN: constexpr,
    BK: constexpr,
) -> None:
    """Weighted sum of a token's slots, out (t, d): down product and combine in one pass."""
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    kk = tl.arange(0, BK)
    w_at = (n % d)[:, None].to(tl.int64) * swn + kk[None, :] * swk
    acc = tl.zeros([BN, BK], tl.float32)
    for j in range(K):
        expert = tl.load(ids + token * K + j).to(tl.int64)
        real = (expert >= 0) & (expert < E)
        weight = tl.where(real, tl.load(weights + token * K + j).to(tl.float32), 0.0)
        for k0 in range(0, f, BK):
            mask = (kk < f - k0) & real
            a = tl.load(h + (token * K + j) * f + k0 + kk, mask=mask, other=0.0) * weight
            at = w + expert * swe + w_at + k0 * swk
            acc += tl.load(at, mask=mask[None, :], other=0.0).to(tl.float32) * a[None, :]
    tl.store(out + token * d + n, tl.sum(acc, 1).to(out.dtype.element_ty), mask=n < d)
