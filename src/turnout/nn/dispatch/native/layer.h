// What the passes over a layer share: the job, the memory to work in, and who does which part.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "tiles.h"

namespace turnout {

// Rows worked on between two barriers.
constexpr i64 GROUP = TALL;

// Mirrors `_Job` of _call.py, field by field. Token tensors are float and contiguous, weights of
// the experts float or bfloat16 (`half`), rows of `up` are gates first where `gated`.
struct Job {
  i64 t, k, d, e, f, out, gated, act, half, threads;
  const i32 *offsets, *order;
  const float *x, *weights;
  const void *up, *down, *up_bias, *down_bias;
  float *y, *saved;
  const float* dy;
  float *dx, *dweights;
  void *dup, *ddown;
  float *dup_bias, *ddown_bias;

  i64 wide() const { return gated ? 2 * f : f; }
};

// Memory that stays with the calling thread from call to call, up to a bound.
class Arena {
 public:
  ~Arena() { release(); }

  // Room for `floats`, aligned; what was there before is gone.
  float* take(i64 floats) {
    const std::size_t bytes = (static_cast<std::size_t>(floats) * 4 + LARGE - 1) / LARGE * LARGE;
    if (bytes > capacity_) {
      release();
      memory_ = std::aligned_alloc(LARGE, bytes);
      if (!memory_) throw std::bad_alloc();
      capacity_ = bytes;
#if defined(__linux__)
      madvise(memory_, bytes, MADV_HUGEPAGE);
#endif
    }
    return static_cast<float*>(memory_);
  }

  void trim() {
    if (capacity_ > BOUND) release();
  }

 private:
  static constexpr std::size_t LARGE = std::size_t{2} << 20, BOUND = std::size_t{64} << 20;
  void* memory_ = nullptr;
  std::size_t capacity_ = 0;

  void release() {
    std::free(memory_);
    memory_ = nullptr;
    capacity_ = 0;
  }
};

// Some rows of one expert, and where its padded rows start within the group and within the layer.
struct Item {
  i64 expert, first, rows, here, saved;
};

using Group = std::vector<Item>;

// Experts with rows, in groups; an expert's rows are cut into pieces of `chunk`, a multiple of a
// panel. No piece is small, so that pieces lie in memory as the whole would.
inline std::vector<Group> groups(const Job& job, i64 chunk) {
  std::vector<Group> out;
  i64 here = 0, saved = 0;
  for (i64 e = 0; e < job.e; ++e) {
    const i64 end = job.offsets[e + 1];
    for (i64 first = job.offsets[e]; first < end;) {
      const i64 left = end - first, rows = left > chunk + PANEL ? chunk : left;
      const i64 size = padded(rows);
      if (out.empty() || here + size > GROUP) {
        out.emplace_back();
        here = 0;
      }
      out.back().push_back({e, first, rows, here, saved});
      here += size;
      saved += size;
      first += rows;
    }
  }
  return out;
}

// Most padded rows of a group, most rows of an item.
inline void sizes(const std::vector<Group>& all, i64& most, i64& longest) {
  most = longest = 0;
  for (const Group& group : all) {
    const Item& last = group.back();
    most = std::max(most, last.here + padded(last.rows));
    for (const Item& item : group) longest = std::max(longest, padded(item.rows));
  }
}

// The share of thread `id` of `n` things, in pieces of `grain`.
inline void share(i64 n, i64 grain, i64 id, i64 threads, i64& from, i64& to) {
  const i64 pieces = (n + grain - 1) / grain;
  from = std::min(n, pieces * id / threads * grain);
  to = std::min(n, pieces * (id + 1) / threads * grain);
}

// Features `from` to `to` of rows that lie one by one, into a panel (K, wide) of them; rows beyond
// those given become zeros.
inline void to_panel(const float* const* rows, i64 given, i64 wide, i64 from, i64 to, float* panel) {
  if (wide < 8) {
    for (i64 m = 0; m < wide; ++m)
      for (i64 i = from; i < to; ++i) panel[i * wide + m] = rows[m][i];
    return;
  }
  static const float zeros[8] = {};
  i64 i = from;
  for (; i + 8 <= to; i += 8)
    for (i64 m = 0; m < wide; m += 8) {
      const float* runs[8];
      for (i64 r = 0; r < 8; ++r) runs[r] = m + r < given ? rows[m + r] + i : zeros;
      turn(runs, panel + i * wide + m, wide);
    }
  for (; i < to; ++i)
    for (i64 m = 0; m < wide; ++m) panel[i * wide + m] = m < given ? rows[m][i] : 0.0f;
}

// Panels of gathered rows: out (K, width), `pitch` floats a row apart, from rows of `x`, K apart,
// by token.
inline void gather(const Job& job, const Item& item, const float* x, i64 K, i64 from, i64 to,
                   float* out, i64 pitch) {
  for (i64 row = 0; row < item.rows; row += PANEL) {
    const i64 left = item.rows - row, wide = width(item.rows, left), here = std::min(left, wide);
    const float* rows[PANEL];
    for (i64 m = 0; m < here; ++m) rows[m] = x + job.order[item.first + row + m] / job.k * K;
    to_panel(rows, here, wide, from, to, out + row * pitch);
  }
}

// Runs `work(id, threads)` on every thread of the caller's OpenMP team, or on this thread alone.
template <class Work>
void team(i64 threads, const Work& work) {
#if defined(_OPENMP)
  if (threads > 1 && !omp_in_parallel()) {
    // no num_threads: changing the size of GNU's team from call to call rebuilds it every time
#pragma omp parallel
    work(omp_get_thread_num(), omp_get_num_threads());
    return;
  }
#endif
  work(0, 1);
}

// Waits for the whole team.
inline void meet(i64 threads) {
  if (threads == 1) return;
#if defined(_OPENMP)
#pragma omp barrier
#endif
}

inline i64 aligned(i64 floats) { return (floats + 15) / 16 * 16; }

inline i64 most_threads(i64 threads) {
#if defined(_OPENMP)
  return threads > 1 ? std::max<i64>(threads, omp_get_max_threads()) : 1;
#else
  (void)threads;
  return 1;
#endif
}

}  // namespace turnout
