// Forward: every active expert's weights are read once for all of its rows.
#pragma once

#include "layer.h"

namespace turnout {

// `n` values of gate and up, in the same layout, to hidden values.
template <int ACT>
void activate(const float* gate, const float* up, i64 n, float* hidden) {
  i64 i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vf a = act<ACT>(load(gate + i));
    store(hidden + i, up ? a * load(up + i) : a);
  }
  if (i == n) return;
  float g[LANES] = {}, u[LANES] = {}, h[LANES];
  for (i64 r = i; r < n; ++r) {
    g[r - i] = gate[r];
    u[r - i] = up ? up[r] : 1.0f;
  }
  store(h, act<ACT>(load(g)) * load(u));
  for (i64 r = i; r < n; ++r) hidden[r] = h[r - i];
}

inline void activate(i64 act, const float* gate, const float* up, i64 n, float* hidden) {
  switch (act) {
    case SILU: return activate<SILU>(gate, up, n, hidden);
    case GELU: return activate<GELU>(gate, up, n, hidden);
    case GELU_TANH: return activate<GELU_TANH>(gate, up, n, hidden);
    case RELU: return activate<RELU>(gate, up, n, hidden);
    default: return activate<RELU2>(gate, up, n, hidden);
  }
}

template <class W>
class Forward {
 public:
  Forward(const Job& job, Arena& arena) : job_(job), all_(groups(job, CHUNK)) {
    i64 most, longest;
    sizes(all_, most, longest);
    const i64 threads = most_threads(job.threads), before = job.saved ? 0 : most * job.wide();
    const i64 deepest = std::max(job.d, job.f);
    room_ = aligned(std::min(deepest, DEPTH) * TILE + DOTS<W> * job.f);
    x_ = arena.take(aligned(most * job.d) + aligned(most * job.f) + aligned(before) +
                    aligned(longest * job.out) + threads * room_);
    hidden_ = x_ + aligned(most * job.d);
    before_ = hidden_ + aligned(most * job.f);
    results_ = before_ + aligned(before);
    rooms_ = results_ + aligned(longest * job.out);
    longest_ = longest;
  }

  void run() {
    if (all_.empty()) return;
    team(job_.threads, [this](i64 id, i64 threads) {
      for (const Group& group : all_) {
        bring(group, id, threads);
        meet(threads);
        for (const Item& item : group) first(item, id, threads);
        meet(threads);
        for (const Item& item : group) second(item, id, threads);
        meet(threads);
      }
    });
  }

 private:
  const Job& job_;
  std::vector<Group> all_;
  float *x_, *hidden_, *before_, *results_, *rooms_;
  i64 room_, longest_;

  float* before(const Item& item) const {
    return job_.saved ? job_.saved + item.saved * job_.wide() : before_ + item.here * job_.wide();
  }

  void bring(const Group& group, i64 id, i64 threads) {
    i64 from, to;
    share(job_.d, 16, id, threads, from, to);
    for (const Item& item : group)
      if (item.rows > DOTS<W>)
        gather(job_, item, job_.x, job_.d, from, to, x_ + item.here * job_.d, job_.d);
  }

  // Rows `from` to `to` of one matrix against the item's rows, biases added.
  void multiply(const W* w, const W* bias, i64 from, i64 to, i64 K, const Item& item,
                const float* panels, const float* const* rows, float* out, i64 ldo, i64 at,
                float* room) {
    const W* begin = w + from * K;
    const i64 n = to - from;
    if (item.rows <= DOTS<W>)
      product_dot(begin, n, K, rows, item.rows, out, at, width(item.rows, item.rows));
    else
      product_nt(begin, n, K, panels, item.rows, out, ldo, at, room);
    if (!bias) return;
    for (i64 row = 0; row < item.rows; row += PANEL) {
      const i64 wide = width(item.rows, item.rows - row);
      float* panel = out + row * ldo + at * wide;
      for (i64 r = 0; r < n; ++r) {
        const float b = scalar(bias[from + r]);
        for (i64 m = 0; m < wide; ++m) panel[r * wide + m] += b;
      }
    }
  }

  void first(const Item& item, i64 id, i64 threads) {
    const i64 d = job_.d, f = job_.f, wide = job_.wide();
    i64 from, to;
    share(f, 16, id, threads, from, to);
    if (from == to) return;
    const W* w = static_cast<const W*>(job_.up) + item.expert * wide * d;
    const W* bias =
        job_.up_bias ? static_cast<const W*>(job_.up_bias) + item.expert * wide : nullptr;
    const float* rows[DOTS<W>];
    for (i64 m = 0; m < std::min(item.rows, DOTS<W>); ++m)
      rows[m] = job_.x + job_.order[item.first + m] / job_.k * d;
    const float* panels = x_ + item.here * d;
    float *out = before(item), *room = rooms_ + id * room_;
    for (i64 half = 0; half < (job_.gated ? 2 : 1); ++half)
      multiply(w, bias, half * f + from, half * f + to, d, item, panels, rows, out, wide,
               half * f + from, room);
    float* hidden = hidden_ + item.here * f;
    for (i64 row = 0; row < item.rows; row += PANEL) {
      const i64 columns = width(item.rows, item.rows - row);
      const float* gate = out + row * wide + from * columns;
      const float* up = job_.gated ? gate + f * columns : nullptr;
      float* to_here = hidden + row * f + from * columns;
      activate(job_.act, gate, up, (to - from) * columns, to_here);
    }
  }

  void second(const Item& item, i64 id, i64 threads) {
    const i64 f = job_.f, out = job_.out;
    i64 from, to;
    share(out, 16, id, threads, from, to);
    if (from == to) return;
    const W* w = static_cast<const W*>(job_.down) + item.expert * out * f;
    const W* bias =
        job_.down_bias ? static_cast<const W*>(job_.down_bias) + item.expert * out : nullptr;
    float* room = rooms_ + id * room_;
    float* hidden = hidden_ + item.here * f;
    float* result = results_ + from * longest_;
    const float* rows[DOTS<W>] = {hidden};
    if (item.rows > 1 && item.rows <= DOTS<W>) {  // rows of a panel to rows one by one
      const i64 wide = width(item.rows, item.rows);
      for (i64 m = 0; m < item.rows; ++m) {
        float* row = room + m * f;
        for (i64 i = 0; i < f; ++i) row[i] = hidden[i * wide + m];
        rows[m] = row;
      }
    }
    const i64 n = to - from;
    multiply(w, bias, from, to, f, item, hidden, rows, result, n, 0, room);
    Rows rows_of[2];
    rows_of[0].find(job_, item, 0, from);
    for (i64 row = 0, turn = 0; row < item.rows; row += PANEL, turn ^= 1) {
      const i64 wide = width(item.rows, item.rows - row);
      rows_of[turn ^ 1].find(job_, item, row + PANEL, from);
      rows_of[turn].add(result + row * n, wide, n, rows_of[turn ^ 1]);
    }
  }

  // Where the rows of a panel belong, and what they weigh.
  struct Rows {
    i64 count;
    float* y[PANEL];
    float weights[PANEL];

    void find(const Job& job, const Item& item, i64 row, i64 from) {
      count = std::max<i64>(0, std::min<i64>(PANEL, item.rows - row));
      for (i64 m = 0; m < count; ++m) {
        const i64 slot = job.order[item.first + row + m];
        weights[m] = job.weights[slot];
        y[m] = job.y + slot / job.k * job.out + from;
      }
    }

    // y[m] += weights[m] times column m of a panel (n, wide), while the next rows are fetched.
    void add(const float* panel, i64 wide, i64 n, const Rows& next) const {
      i64 j = 0;
      if (wide >= 8)
        for (; j + 8 <= n; j += 8) {
          if (j % 16 == 0)
            for (i64 m = 0; m < next.count; ++m) __builtin_prefetch(next.y[m] + j, 1, 2);
          for (i64 m = 0; m < count; m += 8) {
            const float* runs[8];
            for (i64 r = 0; r < 8; ++r) runs[r] = panel + (j + r) * wide + m;
            alignas(64) float turned[64];
            turn(runs, turned, 8);
            for (i64 r = 0; r < std::min<i64>(8, count - m); ++r) {
              float* to = y[m + r] + j;
              const float* of = turned + r * 8;
              const float weight = weights[m + r];
              TURNOUT_UNROLL
              for (int c = 0; c < 8; ++c) to[c] = to[c] + weight * of[c];
            }
          }
        }
      for (; j < n; ++j)
        for (i64 m = 0; m < count; ++m) y[m][j] += weights[m] * panel[j * wide + m];
    }
  };
};

}  // namespace turnout
