// The three products of a layer, each on one expert's weights.
//
// Rows of tokens lie in panels: rows 16 p to 16 p + 15 as an array (length, 16), the last panel
// narrower where few rows are left, so that one vector holds the same feature of many rows. Weights
// stay as they are. Where an expert has one or two rows the panel is that wide.
#pragma once

#include "simd.h"

namespace turnout {

// Up to this many rows a product is a matter of reading the weights, not of arithmetic.
constexpr i64 FEW = 2, SOME = 5, MANY = 48;
// Up to this many rows dot products are faster than panels: where weights must be converted, longer.
template <class W>
constexpr i64 DOTS = sizeof(W) == 4 ? FEW : 8;
// Features multiplied before a partial sum goes back to memory.
constexpr i64 DEPTH = 1024, SHALLOW = 64, BLOCK = 128;
// Floats a row between panels: those a power of two apart would share lines of the caches.
constexpr i64 GAP = 24;
// Rows worked on at a time, so that they stay within the caches; gradients of matrices want more.
constexpr i64 CHUNK = 256, TALL = 1024;

// Width of the panel that starts with `left` rows to go.
TURNOUT_INLINE i64 width(i64 rows, i64 left) {
  if (rows <= FEW) return rows;
  return left <= HALF ? HALF : PANEL;
}

// Rows with the padding of their last panel.
TURNOUT_INLINE i64 padded(i64 rows) {
  if (rows <= FEW) return rows;
  const i64 rest = rows % PANEL;
  return rows - rest + (rest ? width(rows, rest) : 0);
}

// out[n][m] (+)= sum over i of w[n][i] x[i][m]: R rows of weights, V vectors of token rows, in U
// partial sums each, as many as it takes to keep the arithmetic busy.
template <int R, int V, int U>
TURNOUT_INLINE void tile_nt(const float* w, i64 ldw, const float* x, i64 length, float* out,
                            i64 ldo, bool more) {
  constexpr int W = V * LANES;
  vf sum[U][R][V];
  for (int u = 0; u < U; ++u)
    for (int n = 0; n < R; ++n)
      for (int m = 0; m < V; ++m)
        sum[u][n][m] = more && u == 0 ? load(out + n * ldo + m * LANES) : vf{};
  i64 i = 0;
  for (; i + U <= length; i += U, x += U * W)
    TURNOUT_UNROLL
    for (int u = 0; u < U; ++u) {
      vf column[V];
      TURNOUT_UNROLL
      for (int m = 0; m < V; ++m) {
        column[m] = load(x + u * W + m * LANES);
        pin(column[m]);
      }
      TURNOUT_UNROLL
      for (int n = 0; n < R; ++n) {
        const vf b = splat(w[n * ldw + i + u]);
        TURNOUT_UNROLL
        for (int m = 0; m < V; ++m) sum[u][n][m] += b * column[m];
      }
    }
  for (; i < length; ++i, x += W)
    for (int n = 0; n < R; ++n)
      for (int m = 0; m < V; ++m) sum[0][n][m] += splat(w[n * ldw + i]) * load(x + m * LANES);
  TURNOUT_UNROLL
  for (int n = 0; n < R; ++n)
    TURNOUT_UNROLL
    for (int m = 0; m < V; ++m) {
      vf all = sum[0][n][m];
      if constexpr (U > 1) all += sum[U - 1][n][m];
      store(out + n * ldo + m * LANES, all);
    }
}

// Rows of weights as floats: where they lie, or converted into `room`.
template <int R>
TURNOUT_INLINE const float* floats(const float* w, i64 ldw, i64, float*, i64& stride) {
  stride = ldw;
  return w;
}

template <int R>
TURNOUT_INLINE const float* floats(const bf16* w, i64 ldw, i64 length, float* room, i64& stride) {
  stride = length;
  i64 i = 0;
  for (; i + LANES <= length; i += LANES)
    TURNOUT_UNROLL
    for (int n = 0; n < R; ++n) store(room + n * length + i, load(w + n * ldw + i));
  for (; i < length; ++i)
    for (int n = 0; n < R; ++n) room[n * length + i] = scalar(w[n * ldw + i]);
  return room;
}

// One block of R rows, `step` rows apart, against every panel.
template <int R, class W>
TURNOUT_INLINE void block_nt(const W* w, i64 step, i64 K, const float* x, i64 rows, float* out,
                             i64 ldo, i64 at, float* room) {
  for (i64 k = 0; k < K; k += DEPTH) {
    const i64 length = K - k < DEPTH ? K - k : DEPTH;
    i64 ldw;
    const float* block = floats<R>(w + k, step * K, length, room, ldw);
    for (i64 row = 0; row < rows; row += PANEL) {
      const i64 wide = width(rows, rows - row);
      const float* from = x + row * K + k * wide;
      float* to = out + row * ldo + at * wide;
      if (wide == PANEL)
        tile_nt<R, VECS, 1>(block, ldw, from, length, to, step * wide, k > 0);
      else
        tile_nt<R, HALF_VECS, VECS / HALF_VECS>(block, ldw, from, length, to, step * wide, k > 0);
    }
  }
}

// out[n * step][m] = sum over i of w[n][i] a[m][i] for a few token rows, as dot products.
template <int R, int M, class W>
TURNOUT_INLINE void tile_dot(const W* w, i64 ldw, const float* const* a, i64 K, float* out,
                             i64 ldo) {
  vf sum[R][M];
  for (int n = 0; n < R; ++n)
    for (int m = 0; m < M; ++m) sum[n][m] = vf{};
  i64 i = 0;
  for (; i + LANES <= K; i += LANES) {
    vf row[M];
    TURNOUT_UNROLL
    for (int m = 0; m < M; ++m) {
      row[m] = load(a[m] + i);
      pin(row[m]);
    }
    TURNOUT_UNROLL
    for (int n = 0; n < R; ++n) {
      vf b = load(w + n * ldw + i);
      if (M > 1) pin(b);
      TURNOUT_UNROLL
      for (int m = 0; m < M; ++m) sum[n][m] += b * row[m];
    }
  }
  for (int n = 0; n < R; ++n)
    for (int m = 0; m < M; ++m) {
      float s = total(sum[n][m]);
      for (i64 rest = i; rest < K; ++rest) s += scalar(w[n * ldw + rest]) * a[m][rest];
      out[n * ldo + m] = s;
    }
}

// R rows of weights against all of `rows` token rows, at most four at a time.
template <int R, class W>
TURNOUT_INLINE void block_dot(const W* w, i64 ldw, const float* const* a, i64 rows, i64 K,
                              float* out, i64 ldo) {
  constexpr int L = R / 2 ? R / 2 : 1;
  i64 tiles = (rows + 3) / 4;
  for (i64 m = 0; tiles > 0; --tiles) {
    const i64 high = (rows - m + tiles - 1) / tiles;
    if (high == 1) tile_dot<R, 1>(w, ldw, a + m, K, out + m, ldo);
    if (high == 2) tile_dot<R, 2>(w, ldw, a + m, K, out + m, ldo);
    if (high > 2)
      for (int n = 0; n < R; n += L) {
        if (high == 3) tile_dot<L, 3>(w + n * ldw, ldw, a + m, K, out + n * ldo + m, ldo);
        if (high == 4) tile_dot<L, 4>(w + n * ldw, ldw, a + m, K, out + n * ldo + m, ldo);
      }
    m += high;
  }
}

// out = x w^T for `n` rows of weights; what row r gives lands at row at + r of each panel.
//
// Rows of a block are n / R apart, not neighbours: that many linear streams far from one another
// is what the memory delivers fastest (13 to 16 GB/s where neighbouring rows gave 7 to 8).
template <class W>
void product_nt(const W* w, i64 n, i64 K, const float* x, i64 rows, float* out, i64 ldo, i64 at,
                float* room) {
  const i64 step = n / TILE;
  for (i64 i = 0; i < step; ++i)
    block_nt<TILE>(w + i * K, step, K, x, rows, out, ldo, at + i, room);
  i64 i = step * TILE;
  for (; i + 4 <= n; i += 4)
    block_nt<4>(w + i * K, i64{1}, K, x, rows, out, ldo, at + i, room);
  for (; i < n; ++i) block_nt<1>(w + i * K, i64{1}, K, x, rows, out, ldo, at + i, room);
}

// The same for rows that lie one by one; out has panels of `wide`.
template <class W>
void product_dot(const W* w, i64 n, i64 K, const float* const* a, i64 rows, float* out, i64 at,
                 i64 wide) {
  constexpr int R = 6;
  const i64 step = n / R;
  for (i64 i = 0; i < step; ++i)
    block_dot<R>(w + i * K, step * K, a, rows, K, out + (at + i) * wide, step * wide);
  for (i64 i = step * R; i < n; ++i)
    block_dot<1>(w + i * K, i64{0}, a, rows, K, out + (at + i) * wide, i64{0});
}

// Memory that will be read next, asked for while the arithmetic is busy: `left` more tiles fetch a
// row, `step` apart, at every so many of theirs.
template <class W>
struct Ahead {
  const W* at;
  i64 step;
  int left;
};

// c[m][j] (+)= sum over i of a[i][m] b[i][j]: R token rows, V vectors of columns.
template <int R, int V, int EVERY, class W, class A>
TURNOUT_INLINE void tile_nn(const float* a, i64 lda, const W* b, i64 ldb, i64 length, float* c,
                            i64 ldc, bool more, Ahead<A>& ahead) {
  vf sum[R][V];
  for (int m = 0; m < R; ++m)
    for (int v = 0; v < V; ++v) sum[m][v] = more ? load(c + m * ldc + v * LANES) : vf{};
  for (i64 i = 0; i < length; ++i, a += lda, b += ldb) {
    if constexpr (EVERY > 0)
      if (i % EVERY == 0) {
        __builtin_prefetch(ahead.at, 0, 2);
        ahead.at += ahead.step;
      }
    vf column[V];
    TURNOUT_UNROLL
    for (int v = 0; v < V; ++v) {
      column[v] = load(b + v * LANES);
      pin(column[v]);
    }
    TURNOUT_UNROLL
    for (int m = 0; m < R; ++m) {
      const vf s = splat(a[m]);
      TURNOUT_UNROLL
      for (int v = 0; v < V; ++v) sum[m][v] += s * column[v];
    }
  }
  TURNOUT_UNROLL
  for (int m = 0; m < R; ++m)
    TURNOUT_UNROLL
    for (int v = 0; v < V; ++v) store(c + m * ldc + v * LANES, sum[m][v]);
}

// The tile of `high` rows, at most R.
template <int R, int EVERY, class W, class A>
inline void tall_nn(i64 high, const float* a, i64 lda, const W* b, i64 ldb, i64 length, float* c,
                    i64 ldc, bool more, Ahead<A>& ahead) {
  if constexpr (R > 1) {
    if (high < R) return tall_nn<R - 1, EVERY>(high, a, lda, b, ldb, length, c, ldc, more, ahead);
  }
  tile_nn<R, VECS, EVERY>(a, lda, b, ldb, length, c, ldc, more, ahead);
}

// `rows` token rows of one panel, in tiles of like height, against PANEL columns.
template <int EVERY, class W, class A>
TURNOUT_INLINE void strip_nn(i64 rows, const float* a, i64 lda, const W* b, i64 ldb, i64 length,
                             float* c, i64 ldc, bool more, Ahead<A>& ahead) {
  i64 tiles = (rows + TILE - 1) / TILE;
  for (i64 m = 0; tiles > 0; --tiles) {
    const i64 high = (rows - m + tiles - 1) / tiles;
    if (EVERY && ahead.left > 0) {
      --ahead.left;
      tall_nn<TILE, EVERY>(high, a + m, lda, b, ldb, length, c + m * ldc, ldc, more, ahead);
    } else {
      tall_nn<TILE, 0>(high, a + m, lda, b, ldb, length, c + m * ldc, ldc, more, ahead);
    }
    m += high;
  }
}

// c += a b for one or two rows: eight streams through b, each a run of whole rows.
template <int M, class W>
void product_nn_few(const float* a, i64 K, const W* b, i64 ldb, i64 n, float* c, i64 ldc) {
  constexpr int G = 8 / M;
  const i64 step = K / G;
  for (int m = 0; m < M; ++m) std::memset(c + m * ldc, 0, sizeof(float) * n);
  for (i64 i = 0; i < step; ++i) {
    vf s[G][M];
    for (int g = 0; g < G; ++g)
      for (int m = 0; m < M; ++m) s[g][m] = splat(a[(g * step + i) * M + m]);
    const W* at = b + i * ldb;
    for (i64 j = 0; j < n; j += LANES) {
      vf sum[M];
      for (int m = 0; m < M; ++m) sum[m] = load(c + m * ldc + j);
      TURNOUT_UNROLL
      for (int g = 0; g < G; ++g) {
        const vf row = load(at + g * step * ldb + j);
        for (int m = 0; m < M; ++m) sum[m] += s[g][m] * row;
      }
      for (int m = 0; m < M; ++m) store(c + m * ldc + j, sum[m]);
    }
  }
}

// c = x b: token rows in panels (K, width) that start `pitch` floats a row apart, b (K, n) with
// rows ldb apart, c by rows. K and n are multiples of 16. `room` holds BLOCK * PANEL floats: with many
// rows to share it, a block of b is first laid out without gaps.
template <class W>
void product_nn(const float* a, i64 pitch, i64 rows, i64 K, const W* b, i64 ldb, i64 n, float* c,
                i64 ldc, float* room) {
  if (rows == 1) return product_nn_few<1>(a, K, b, ldb, n, c, ldc);
  if (rows == 2) return product_nn_few<2>(a, K, b, ldb, n, c, ldc);
  if (rows <= SOME) {
    const i64 step = K / 8, wide = width(rows, rows);
    Ahead<W> none{b, 0, 0};
    for (i64 i = 0; i < step; ++i)
      for (i64 j = 0; j < n; j += PANEL)
        strip_nn<0>(rows, a + i * wide, step * wide, b + i * ldb + j, step * ldb, 8, c + j, ldc,
                    i > 0, none);
    return;
  }
  const bool pack = rows >= MANY;
  const i64 most = pack ? BLOCK : SHALLOW;
  for (i64 first = 0; first < rows; first += CHUNK) {
    const i64 end = rows - first < CHUNK ? rows : first + CHUNK;
    for (i64 k = 0; k < K; k += most) {
      const i64 length = K - k < most ? K - k : most;
      for (i64 j = 0; j < n; j += PANEL) {
        const W* at = b + k * ldb + j;
        if (pack)
          for (i64 i = 0; i < length; ++i)
            TURNOUT_UNROLL
            for (int v = 0; v < VECS; ++v)
              store(room + i * PANEL + v * LANES, load(at + i * ldb + v * LANES));
        Ahead<W> ahead{at + PANEL, ldb, pack ? 4 : 1};
        for (i64 row = first; row < end; row += PANEL) {
          const i64 left = rows - row, wide = width(rows, left), here = left < PANEL ? left : PANEL;
          const float* from = a + row * pitch + k * wide;
          float* to = c + row * ldc + j;
          if (pack)
            strip_nn<4>(here, from, wide, room, i64{PANEL}, length, to, ldc, k > 0, ahead);
          else
            strip_nn<1>(here, from, wide, at, ldb, length, to, ldc, k > 0, ahead);
        }
      }
    }
  }
}

// c[n][j] (+)= sum over token rows of a[n][m] x[m][j] for R rows of c: `a` holds the panels' rows
// from `at` on, or, laid out without gaps, (rows, R).
template <int R, bool PACKED, class O>
TURNOUT_INLINE void tile_tn(const float* a, i64 pitch, i64 at, i64 rows, const float* x, O* c,
                            i64 ldc, bool more) {
  vf sum[R][VECS];
  for (int n = 0; n < R; ++n)
    for (int v = 0; v < VECS; ++v) sum[n][v] = more ? load(c + n * ldc + v * LANES) : vf{};
  for (i64 row = 0; row < rows; row += PACKED ? rows : PANEL) {
    const i64 left = rows - row, wide = PACKED ? 1 : width(rows, left);
    const i64 here = PACKED || left < PANEL ? left : PANEL;
    const float* from = PACKED ? a : a + row * pitch + at * wide;
    for (i64 m = 0; m < here; ++m, x += PANEL) {
      vf line[VECS];
      TURNOUT_UNROLL
      for (int v = 0; v < VECS; ++v) {
        line[v] = load(x + v * LANES);
        pin(line[v]);
      }
      TURNOUT_UNROLL
      for (int n = 0; n < R; ++n) {
        const vf s = splat(PACKED ? from[m * R + n] : from[n * wide + m]);
        TURNOUT_UNROLL
        for (int v = 0; v < VECS; ++v) sum[n][v] += s * line[v];
      }
    }
  }
  TURNOUT_UNROLL
  for (int n = 0; n < R; ++n)
    TURNOUT_UNROLL
    for (int v = 0; v < VECS; ++v) store(c + n * ldc + v * LANES, sum[n][v]);
}

// Rows of c from `at` on, R of them.
template <int R, class O>
TURNOUT_INLINE void block_tn(const float* a, i64 pitch, i64 at, i64 rows, const float* x, i64 D,
                             O* c, bool more, float* room) {
  O* to = c + at * D;
  if (rows < MANY) {
    for (i64 j = 0; j < D; j += PANEL)
      tile_tn<R, false>(a, pitch, at, rows, x + j * rows, to + j, D, more);
    return;
  }
  for (i64 row = 0; row < rows; row += PANEL) {
    const i64 left = rows - row, wide = width(rows, left), here = left < PANEL ? left : PANEL;
    const float* from = a + row * pitch + at * wide;
    for (i64 m = 0; m < here; ++m)
      for (int n = 0; n < R; ++n) room[(row + m) * R + n] = from[n * wide + m];
  }
  for (i64 j = 0; j < D; j += PANEL)
    tile_tn<R, true>(room, 0, 0, rows, x + j * rows, to + j, D, more);
}

// Rows `from` to `to` of c (N, D), = a x or += a x where there was `more`: a in panels (N, width),
// x as (D / 16, rows, 16), `room` for TILE * rows floats.
//
// Stores past the caches lost: pages of c are mostly new, hence in the caches since the kernel
// cleared them.
template <class O>
void product_tn(const float* a, i64 pitch, i64 from, i64 to, i64 rows, const float* x, i64 D, O* c,
                bool more, float* room) {
  i64 n = from;
  for (; n + TILE <= to; n += TILE) block_tn<TILE>(a, pitch, n, rows, x, D, c, more, room);
  for (; n < to; ++n) block_tn<1>(a, pitch, n, rows, x, D, c, more, room);
}

}  // namespace turnout
