// Experts of a mixture-of-experts layer on a processor, behind a C interface.
//
// Plain C pointers on both sides: the library needs no header of torch, builds in seconds, and
// outlives torch's versions. Nothing here reads outside what the job describes, provided that
// `turnout_plan` accepted the expert numbers.

#include "backward.h"
#include "forward.h"

using namespace turnout;

namespace {

thread_local Arena arena;

// A team is woken only for work that outlasts the waking.
constexpr i64 ALONE = 1 << 18;

Job settled(const Job& job) {
  Job out = job;
  const i64 work = i64{job.offsets[job.e]} * (job.wide() * job.d + job.f * job.out);
  if (work < ALONE) out.threads = 1;
  return out;
}

template <template <class> class Pass>
int pass(const Job* given) {
  try {
    const Job job = settled(*given);
    if (job.half)
      Pass<bf16>(job, arena).run();
    else
      Pass<float>(job, arena).run();
    arena.trim();
    return 0;
  } catch (...) {
    return 1;
  }
}

}  // namespace

extern "C" {

// Raised with every change of the interface.
int turnout_version() { return 1; }

// Counting sort of t * k expert numbers, e of them and e for none, stable. Fills `offsets` (e + 1)
// and `order` (slots by expert). Gives the rows that a pass over the layer keeps, padding included,
// or -1 where a number lies outside 0 to e.
i64 turnout_plan(const i64* ids, i64 slots, i64 e, i32* offsets, i32* order) {
  for (i64 i = 0; i <= e; ++i) offsets[i] = 0;
  for (i64 i = 0; i < slots; ++i) {
    if (ids[i] < 0 || ids[i] > e) return -1;
    if (ids[i] < e) ++offsets[ids[i] + 1];
  }
  i64 rows = 0;
  for (i64 i = 0; i < e; ++i) {
    rows += padded(offsets[i + 1]);
    offsets[i + 1] += offsets[i];
  }
  for (i64 i = 0; i < slots; ++i)
    if (ids[i] < e) order[offsets[ids[i]]++] = static_cast<i32>(i);
  for (i64 i = e; i > 0; --i) offsets[i] = offsets[i - 1];
  if (e > 0) offsets[0] = 0;
  return rows;
}

// y += what the experts make of x; keeps the values before the activation where `saved` is given.
int turnout_forward(const Job* job) { return pass<Forward>(job); }

// Every gradient whose pointer is given; needs what the forward pass kept.
int turnout_backward(const Job* job) { return pass<Backward>(job); }

}  // extern "C"
