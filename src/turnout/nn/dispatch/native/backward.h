// Backward: each gradient of a weight is written once, weights are read once more, and what the
// forward pass kept is the values before the activation.
#pragma once

#include "layer.h"

namespace turnout {

// From the gradient of hidden values (in `hidden`) to that of gate and up, for `n` values laid out
// alike. `hidden` becomes the hidden values times their row's weight; `sums` collects by lane what
// hidden values times their gradient give. Rows change with period PANEL: `weights` has one each.
template <int ACT>
void activate_back(const float* gate, const float* up, i64 n, const float* weights, float* hidden,
                   float* dgate, float* dup, float* sums) {
  vf sum[VECS], weight[VECS];
  for (int v = 0; v < VECS; ++v) {
    sum[v] = load(sums + v * LANES);
    weight[v] = load(weights + v * LANES);
  }
  const vf one = splat(1.0f);
  for (i64 i = 0; i < n; i += PANEL)
    TURNOUT_UNROLL
    for (int v = 0; v < VECS; ++v) {
      const i64 at = i + v * LANES;
      vf slope;
      const vf a = act_slope<ACT>(load(gate + at), slope);
      const vf u = up ? load(up + at) : one;
      const vf d = load(hidden + at), h = a * u, dw = d * weight[v];
      sum[v] += h * d;
      store(hidden + at, h * weight[v]);
      store(dgate + at, dw * u * slope);
      if (up) store(dup + at, dw * a);
    }
  for (int v = 0; v < VECS; ++v) store(sums + v * LANES, sum[v]);
}

inline void activate_back(i64 act, const float* gate, const float* up, i64 n, const float* weights,
                          float* hidden, float* dgate, float* dup, float* sums) {
  switch (act) {
    case SILU: return activate_back<SILU>(gate, up, n, weights, hidden, dgate, dup, sums);
    case GELU: return activate_back<GELU>(gate, up, n, weights, hidden, dgate, dup, sums);
    case GELU_TANH:
      return activate_back<GELU_TANH>(gate, up, n, weights, hidden, dgate, dup, sums);
    case RELU: return activate_back<RELU>(gate, up, n, weights, hidden, dgate, dup, sums);
    default: return activate_back<RELU2>(gate, up, n, weights, hidden, dgate, dup, sums);
  }
}

// Widths d, f and out are multiples of PANEL.
template <class W>
class Backward {
 public:
  Backward(const Job& job, Arena& arena) : job_(job), all_(groups(job, 0)) {
    sizes(all_, most_, longest_);
    threads_ = most_threads(job.threads);
    const i64 widest = std::max(job.d, job.f);
    // a share of columns has a gap behind it: rows a power of two apart share lines of the cache
    const i64 gaps = PANEL * threads_;
    const i64 lengths[] = {most_ * job.out,    most_ * job.d,     most_ * job.f,
                           most_ * job.wide(), most_ * threads_,  longest_ * (widest + gaps),
                           BLOCK * PANEL * threads_};
    float** parts[] = {&dy_, &x_, &hidden_, &before_, &sums_, &result_, &rooms_};
    i64 all = 0;
    for (i64 length : lengths) all += aligned(length);
    float* at = arena.take(all);
    for (int i = 0; i < 7; ++i) {
      *parts[i] = at;
      at += aligned(lengths[i]);
    }
  }

  void run() {
    if (all_.empty()) return;
    team(job_.threads, [this](i64 id, i64 threads) {
      for (const Group& group : all_) {
        bring(group, id, threads);
        meet(threads);
        for (const Item& item : group) hidden(item, id, threads);
        meet(threads);
        for (const Item& item : group) rest(item, id, threads);
        if (job_.dweights && id == 0)
          for (const Item& item : group) weigh(item, threads);
        meet(threads);
      }
    });
  }

 private:
  const Job& job_;
  std::vector<Group> all_;
  i64 most_, longest_, threads_;
  float *dy_, *x_, *hidden_, *before_, *sums_, *result_, *rooms_;

  // Gradients of the rows in panels; inputs as (d / 16, rows, 16).
  void bring(const Group& group, i64 id, i64 threads) {
    i64 from, to;
    share(job_.out, PANEL, id, threads, from, to);
    for (const Item& item : group)
      gather(job_, item, job_.dy, job_.out, from, to, dy_ + item.here * job_.out);
    if (!job_.dup) return;
    share(job_.d, PANEL, id, threads, from, to);
    for (const Item& item : group) {
      float* x = x_ + item.here * job_.d;
      for (i64 m = 0; m < item.rows; ++m) {
        const float* row = job_.x + job_.order[item.first + m] / job_.k * job_.d;
        for (i64 i = from; i < to; i += PANEL)
          std::memcpy(x + i * item.rows + m * PANEL, row + i, PANEL * sizeof(float));
      }
    }
  }

  // Gradient of the hidden values, then of gate and up, of the thread's share of f.
  void hidden(const Item& item, i64 id, i64 threads) {
    const i64 f = job_.f, wide = job_.wide();
    i64 from, to;
    share(f, PANEL, id, threads, from, to);
    float* sums = sums_ + id * most_ + item.here;
    std::fill(sums, sums + padded(item.rows), 0.0f);
    if (from == to) return;
    const W* w = static_cast<const W*>(job_.down) + item.expert * job_.out * f;
    float* result = result_ + (from + PANEL * id) * longest_;
    const i64 n = to - from, ldr = n + PANEL;
    product_nn(dy_ + item.here * job_.out, item.rows, job_.out, w + from, f, n, result, ldr,
               rooms_ + id * BLOCK * PANEL);
    float *h = hidden_ + item.here * f, *dpre = before_ + item.here * wide;
    const float* pre = job_.saved + item.saved * wide;
    for (i64 row = 0; row < item.rows; row += PANEL) {
      const i64 left = item.rows - row, columns = width(item.rows, left);
      const i64 here = std::min(left, columns);
      float weights[PANEL] = {}, lanes[PANEL] = {};
      for (i64 m = 0; m < PANEL; ++m)
        if (m % columns < left)
          weights[m] = job_.weights[job_.order[item.first + row + m % columns]];
      // a block of PANEL features at a time: its rows turned to the layout of the kept values
      for (i64 j = from; j < to; j += PANEL) {
        float block[PANEL * PANEL];
        const float* rows[PANEL];
        for (i64 m = 0; m < here; ++m) rows[m] = result + (row + m) * ldr + (j - from);
        to_panel(rows, here, columns, 0, PANEL, block);
        const i64 at = row * wide + j * columns;
        const float* gate = pre + at;
        const float* up = job_.gated ? gate + f * columns : nullptr;
        activate_back(job_.act, gate, up, PANEL * columns, weights, block, dpre + at,
                      dpre + at + f * columns, lanes);
        from_panel(block, columns, here, h + j * item.rows + row * PANEL);
      }
      for (i64 m = 0; m < PANEL; ++m) sums[row + m % columns] += lanes[m];
    }
  }

  // A block (16, columns) to rows of sixteen, `rows` of them.
  static void from_panel(const float* block, i64 columns, i64 rows, float* out) {
    if (columns < 8) {
      for (i64 m = 0; m < rows; ++m)
        for (i64 i = 0; i < PANEL; ++i) out[m * PANEL + i] = block[i * columns + m];
      return;
    }
    float whole[PANEL * PANEL];
    for (i64 i = 0; i < PANEL; i += 8)
      for (i64 m = 0; m < columns; m += 8) {
        const float* runs[8];
        for (i64 r = 0; r < 8; ++r) runs[r] = block + (i + r) * columns + m;
        turn(runs, whole + m * PANEL + i, PANEL);
      }
    std::memcpy(out, whole, rows * PANEL * sizeof(float));
  }

  void rest(const Item& item, i64 id, i64 threads) {
    const i64 d = job_.d, out = job_.out, wide = job_.wide();
    const float *dy = dy_ + item.here * out, *dpre = before_ + item.here * wide;
    i64 from, to;
    if (job_.ddown) {
      share(out, TILE, id, threads, from, to);
      weighted_down(item, dy, from, to);
    }
    if (job_.dup) {
      share(wide, TILE, id, threads, from, to);
      W* w = static_cast<W*>(job_.dup) + item.expert * wide * d;
      product_tn(dpre, wide, from, to, item.rows, x_ + item.here * d, d, w);
    }
    if (job_.dup_bias) {
      share(wide, PANEL, id, threads, from, to);
      add_rows(item, dpre, wide, from, to, nullptr, job_.dup_bias + item.expert * wide);
    }
    if (job_.ddown_bias) {
      share(out, PANEL, id, threads, from, to);
      add_rows(item, dy, out, from, to, job_.weights, job_.ddown_bias + item.expert * out);
    }
    if (!job_.dx) return;
    share(d, PANEL, id, threads, from, to);
    if (from == to) return;
    const W* w = static_cast<const W*>(job_.up) + item.expert * wide * d;
    float* result = result_ + (from + PANEL * id) * longest_;
    const i64 n = to - from, ldr = n + PANEL;
    product_nn(dpre, item.rows, wide, w + from, d, n, result, ldr, rooms_ + id * BLOCK * PANEL);
    for (i64 m = 0; m < item.rows; ++m) {
      float* dx = job_.dx + job_.order[item.first + m] / job_.k * d + from;
      for (i64 i = 0; i < n; ++i) dx[i] += result[m * ldr + i];
    }
  }

  void weighted_down(const Item& item, const float* dy, i64 from, i64 to) {
    W* w = static_cast<W*>(job_.ddown) + item.expert * job_.out * job_.f;
    product_tn(dy, job_.out, from, to, item.rows, hidden_ + item.here * job_.f, job_.f, w);
  }

  // bias[n] = sum over rows of panels (N, width), each times its weight.
  void add_rows(const Item& item, const float* panels, i64 N, i64 from, i64 to,
                const float* weights, float* bias) {
    for (i64 row = 0; row < item.rows; row += PANEL) {
      const i64 left = item.rows - row, columns = width(item.rows, left);
      for (i64 n = from; n < to; ++n)
        for (i64 m = 0; m < std::min(left, columns); ++m) {
          const float v = panels[row * N + n * columns + m];
          bias[n] += weights ? v * weights[job_.order[item.first + row + m]] : v;
        }
    }
  }

  // Gradient of the routing weights: the row's gradient times what the expert gave.
  void weigh(const Item& item, i64 threads) {
    for (i64 m = 0; m < item.rows; ++m) {
      const i64 slot = job_.order[item.first + m];
      float sum = 0;
      for (i64 id = 0; id < threads; ++id) sum += sums_[id * most_ + item.here + m];
      if (job_.down_bias) {
        const W* bias = static_cast<const W*>(job_.down_bias) + item.expert * job_.out;
        const float* dy = job_.dy + slot / job_.k * job_.out;
        for (i64 j = 0; j < job_.out; ++j) sum += scalar(bias[j]) * dy[j];
      }
      job_.dweights[slot] = sum;
    }
  }
};

}  // namespace turnout
