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
  Backward(const Job& job, Arena& arena) : job_(job), all_(groups(job, TALL)) {
    sizes(all_, most_, longest_);
    threads_ = most_threads(job.threads);
    const i64 widest = std::max(job.d, job.f);
    out_ = job.out + GAP;
    wide_ = job.wide() + GAP;
    room_ = aligned(std::max(BLOCK * PANEL, longest_ * TILE));
    const bool spare = job.half && longest_ >= TALL;
    const i64 lengths[] = {most_ * out_, most_ * job.d,    most_ * job.f,
                           most_ * wide_, most_ * threads_, longest_ * (widest + GAP * threads_),
                           room_ * threads_,
                           spare ? job.wide() * job.d : 0,
                           spare ? job.out * job.f : 0};
    float** parts[] = {&dy_, &x_, &hidden_, &before_, &sums_, &result_, &rooms_,
                       &up_, &down_};
    i64 all = 0;
    for (i64 length : lengths) all += aligned(length);
    float* at = arena.take(all);
    for (int i = 0; i < 9; ++i) {
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
  i64 most_, longest_, threads_, out_, wide_, room_;
  float *dy_, *x_, *hidden_, *before_, *sums_, *result_, *rooms_, *up_, *down_;

  // Gradients of the rows in panels; inputs as (d / 16, rows, 16).
  void bring(const Group& group, i64 id, i64 threads) {
    i64 from, to;
    share(job_.out, PANEL, id, threads, from, to);
    for (const Item& item : group)
      gather(job_, item, job_.dy, job_.out, from, to, dy_ + item.here * out_, out_);
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
    float* result = result_ + (from + GAP * id) * longest_;
    const i64 n = to - from, ldr = n + GAP;
    product_nn(dy_ + item.here * out_, out_, item.rows, job_.out, w + from, f, n, result, ldr,
               rooms_ + id * room_);
    float *h = hidden_ + item.here * f, *dpre = before_ + item.here * wide_;
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
        const float* gate = pre + row * wide + j * columns;
        const float* up = job_.gated ? gate + f * columns : nullptr;
        float* dgate = dpre + row * wide_ + j * columns;
        activate_back(job_.act, gate, up, PANEL * columns, weights, block, dgate,
                      dgate + f * columns, lanes);
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
    const float *dy = dy_ + item.here * out_, *dpre = before_ + item.here * wide_;
    float* room = rooms_ + id * room_;
    i64 from, to;
    if (job_.ddown) {
      share(out, TILE, id, threads, from, to);
      W* w = static_cast<W*>(job_.ddown) + item.expert * out * job_.f;
      outer(item, dy, out_, from, to, hidden_ + item.here * job_.f, job_.f, w, down_, room);
    }
    if (job_.dup) {
      share(wide, TILE, id, threads, from, to);
      W* w = static_cast<W*>(job_.dup) + item.expert * wide * d;
      outer(item, dpre, wide_, from, to, x_ + item.here * d, d, w, up_, room);
    }
    if (job_.dup_bias) {
      share(wide, PANEL, id, threads, from, to);
      add_rows(item, dpre, wide_, from, to, nullptr, job_.dup_bias + item.expert * wide);
    }
    if (job_.ddown_bias) {
      share(out, PANEL, id, threads, from, to);
      add_rows(item, dy, out_, from, to, job_.weights, job_.ddown_bias + item.expert * out);
    }
    if (!job_.dx) return;
    share(d, PANEL, id, threads, from, to);
    if (from == to) return;
    const W* w = static_cast<const W*>(job_.up) + item.expert * wide * d;
    float* result = result_ + (from + GAP * id) * longest_;
    const i64 n = to - from, ldr = n + GAP;
    product_nn(dpre, wide_, item.rows, wide, w + from, d, n, result, ldr, room);
    for (i64 m = 0; m < item.rows; ++m) {
      float* dx = job_.dx + job_.order[item.first + m] / job_.k * d + from;
      for (i64 i = 0; i < n; ++i) dx[i] += result[m * ldr + i];
    }
  }

  // Rows `from` to `to` of a matrix's gradient. It is written once where an expert's rows are one
  // piece; halves of several pieces are summed as floats first.
  void outer(const Item& item, const float* a, i64 pitch, i64 from, i64 to, const float* x, i64 D,
             W* w, float* spare, float* room) {
    const bool more = item.first > job_.offsets[item.expert];
    const bool last = item.first + item.rows == job_.offsets[item.expert + 1];
    if (sizeof(W) == sizeof(float) || (last && !more))
      return product_tn(a, pitch, from, to, item.rows, x, D, w, more, room);
    product_tn(a, pitch, from, to, item.rows, x, D, spare, more, room);
    if (last)
      for (i64 i = from * D; i < to * D; i += LANES) store(w + i, load(spare + i));
  }

  // bias[n] += sum over rows of panels, each times its weight.
  void add_rows(const Item& item, const float* panels, i64 pitch, i64 from, i64 to,
                const float* weights, float* bias) {
    for (i64 row = 0; row < item.rows; row += PANEL) {
      const i64 left = item.rows - row, columns = width(item.rows, left);
      for (i64 n = from; n < to; ++n)
        for (i64 m = 0; m < std::min(left, columns); ++m) {
          const float v = panels[row * pitch + n * columns + m];
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
