// Scores of one text under a linear model of its words and word pairs, and the choice that follows,
// behind a C interface. Also the form of a text, and the mean of a forest over that form and such a
// model (turnout/parts/form.py, trees.py, mixture.py).
//
// The same words, hashes and sums as turnout/parts/text.py, which says what they are; the constants
// and tables of both stand there and come in by pointer. One pass over the bytes hashes the words;
// slots are asked for well before they are read, since most of the time goes into waiting for
// memory. Every sum is exact (the table is made so), hence the order of adding is free.
//
// No memory is taken and nothing is remembered: all that a call writes is the scratch of its job.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "form.h"

namespace {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr i64 BLOCK = 128;      // words looked up together
constexpr i64 TOGETHER = 20;    // trees gone down side by side: each waits for memory
constexpr u32 CASED = 0x20000;  // characters that the table of `turnout_text_plain` tells of

// Mirrored by `_Job` of _text.py, field by field.
struct Job {
  const u8* kind;           // (256,) class of a byte
  const u8* code;           // (256,) what it adds to a hash
  const u64* power;         // (limit,) B^(i + 1)
  const i32* ids;           // (2^(64 - shift),) feature of each slot, d where it is empty
  const u64* keys;          // (d + 1,) hash of each feature; the last equals none that looks there
  const float* table;       // (d, m + 1) weights, and the square of the length
  const double* intercept;  // (m,)
  const double* lines;      // (3, m) cost at length zero, per character, at least
  u64 pair;                 // K
  i64 shift, d, m;
  // Scratch, of one call at a time.
  u64* words;     // (limit + 1,)
  u64* seen;      // (d / 64 + 1,) one bit a feature
  double* sums;   // (m + 1,)
  double* given;  // (2,) price of cost, characters of the whole text
  double* made;   // (m,) scores, or expected quality
  double* cost;   // (m,)
};

// A node as it lies in memory, so that one look has all of it.
struct Node {
  i32 children[2];  // a later node, or ~leaf
  i32 column;
  float threshold;  // left where x <= threshold
};

// Mirrored by `_Mix` of _mixture.py, field by field.
struct Mix {
  form::Room room;
  const i32* roots;       // (trees,) a node, or ~leaf
  const Node* nodes;      // all trees' together
  const float* value;     // (leaves, m) quality
  const double* line;     // (2, m) base and level of each destination's log-odds
  const i64* picked;      // (k,) the destinations to choose from
  i64 m;                  // destinations: the first scores of the job; the others are topics
  i64 k;
  double unknown;         // what a word never seen counts in the length
  double trust;           // weight of the words where all of them are known
  double spread;          // from differences between destinations to log-odds
  i64 trees;
  // Scratch.
  float* form;    // (44 + topics,)
  double* sums;   // (m,)
};

// Hashes of the words into words[1], words[2] and so on; gives how many. What stands before the
// first word, spaces, goes to words[0] and is nobody's.
i64 read(const Job& job, const u8* text, i64 size) {
  u64* const words = job.words;
  u64 hash = 0;
  i64 count = 0, at = -1;
  unsigned before = 0;
  for (i64 i = 0; i < size; ++i) {
    const unsigned kind = job.kind[text[i]];
    const bool opens = kind > (before & 1);
    count += opens;
    const u64 on = u64{opens} - 1;  // all ones within a word: no branch to be guessed wrong
    at = (at + 1) & static_cast<i64>(on);
    hash = (hash & on) + job.code[text[i]] * job.power[at];
    words[count] = hash;
    before = kind;
  }
  return count;
}

// Features of words[from] to words[to - 1] and of the pairs they open that are known and new; adds
// up how many are not known.
i64 find(const Job& job, i64 from, i64 to, i64 count, i32* found, i64& strange) {
  u64 key[2 * BLOCK];
  i64 asked = 0, known = 0, fresh = 0;
  const u64* const words = job.words + 1;
  for (i64 i = from; i < to; ++i) key[asked++] = words[i];
  const i64 last = to < count ? to : count - 1;
  for (i64 i = from; i < last; ++i) key[asked++] = words[i] * job.pair + words[i + 1];
  for (i64 i = 0; i < asked; ++i) __builtin_prefetch(job.ids + (key[i] >> job.shift));
  for (i64 i = 0; i < asked; ++i) {
    const i32 id = job.ids[key[i] >> job.shift];
    found[known] = id;
    known += job.keys[id] == key[i];
  }
  strange += asked - known;
  for (i64 i = 0; i < known; ++i) {
    const i32 id = found[i];
    u64& field = job.seen[id >> 6];
    const u64 bit = u64{1} << (id & 63);
    found[fresh] = id;
    fresh += !(field & bit);
    field |= bit;
    __builtin_prefetch(job.table + id * (job.m + 1));
  }
  return fresh;
}

// Fills `made`; gives the share of the squared length that known features have, if each one that is
// not known adds `unknown` to it.
double score(const Job& job, const u8* text, i64 size, double unknown) {
  double* const __restrict sums = job.sums;
  i64 total = 0, strange = 0;
  if (job.d > 0) {
    const i64 count = read(job, text, size);
    std::memset(job.seen, 0, static_cast<std::size_t>(job.d / 64 + 1) * sizeof(u64));
    for (i64 j = 0; j <= job.m; ++j) sums[j] = 0.0;
    i32 found[2 * BLOCK];
    for (i64 from = 0; from < count; from += BLOCK) {
      const i64 to = from + BLOCK < count ? from + BLOCK : count;
      const i64 fresh = find(job, from, to, count, found, strange);
      for (i64 i = 0; i < fresh; ++i) {
        const float* const __restrict row = job.table + found[i] * (job.m + 1);
        for (i64 j = 0; j <= job.m; ++j) sums[j] += row[j];
      }
      total += fresh;
    }
  }
  const double shrink = total ? 1.0 / std::sqrt(sums[job.m]) : 0.0;
  for (i64 j = 0; j < job.m; ++j)
    job.made[j] = total ? sums[j] * shrink + job.intercept[j] : job.intercept[j];
  if (!total) return 0.0;
  return sums[job.m] / (sums[job.m] + static_cast<double>(strange) * unknown);
}

// e^700 is about the greatest that a float holds.
double logistic(double z) { return z > -700.0 ? 1.0 / (1.0 + std::exp(-z)) : 0.0; }

// Makes scores into expected quality.
void squash(const Job& job) {
  for (i64 j = 0; j < job.m; ++j) job.made[j] = logistic(job.made[j]);
}

// Expected quality by words and form of those to choose from, into `made`. `text` is in lower case, `plain` as it came.
void mix(const Job& job, const Mix& with, const u8* text, i64 size, const u8* plain, i64 length) {
  const double known = score(job, text, size, with.unknown);
  form::read(with.room, plain, length, with.form);
  double square = 0.0;
  for (i64 j = with.m; j < job.m; ++j) square += job.made[j] * job.made[j];
  const double reach = square > 0.0 ? std::sqrt(square) : 1.0;
  for (i64 j = with.m; j < job.m; ++j)
    with.form[form::COLUMNS + j - with.m] = static_cast<float>(job.made[j] / reach);
  for (i64 j = 0; j < with.m; ++j) with.sums[j] = 0.0;
  for (i64 from = 0; from < with.trees; from += TOGETHER) {
    i32 at[TOGETHER];
    const i64 count = std::min(TOGETHER, with.trees - from);
    bool inside = false;
    for (i64 i = 0; i < count; ++i) {
      at[i] = with.roots[from + i];
      inside |= at[i] >= 0;
    }
    while (inside) {
      inside = false;
      for (i64 i = 0; i < count; ++i) {
        if (at[i] < 0) continue;
        const Node& node = with.nodes[at[i]];
        at[i] = node.children[!(with.form[node.column] <= node.threshold)];
        inside |= at[i] >= 0;
      }
    }
    for (i64 i = 0; i < count; ++i) {
      const float* const value = with.value + static_cast<i64>(~at[i]) * with.m;
      for (i64 j = 0; j < with.m; ++j) with.sums[j] += value[j];
    }
  }
  double weight = with.trust * known;
  weight = weight < 1.0 ? weight : 1.0;
  double mean = 0.0;
  for (i64 j = 0; j < with.m; ++j) {
    const double shape = with.sums[j] / static_cast<double>(with.trees);
    with.sums[j] = (1.0 - weight) * shape + weight * logistic(job.made[j]);
    mean += with.sums[j];
  }
  mean /= static_cast<double>(with.m);
  for (i64 i = 0; i < with.k; ++i) {
    const i64 j = with.picked[i];
    const double line = with.line[j] + with.line[with.m + j] * mean;
    job.made[i] = logistic(line + with.spread * (with.sums[j] - mean));
  }
}

// Which destination is best at the price, by the quality in `made`; -1 where that is not one alone.
// Fills `cost`.
int choose(const Job& job) {
  const double price = job.given[0], characters = job.given[1];
  i64 choice = -1;
  double best = 0.0;
  bool alone = false;
  for (i64 j = 0; j < job.m; ++j) {
    const double line = job.lines[j] + characters * job.lines[job.m + j];
    const double least = job.lines[2 * job.m + j];
    const double cost = line > least ? line : least;
    job.cost[j] = cost;
    const double value = job.made[j] - price * cost;
    if (choice < 0 || value > best) {
      choice = j;
      best = value;
      alone = true;
    } else if (!(value < best)) {
      alone = false;
    }
  }
  return alone ? static_cast<int>(choice) : -1;
}

}  // namespace

extern "C" {

// Raised with every change of the interface.
int turnout_text_version() { return 2; }

// Whether lower case leaves every character of a text in whole UTF-8 as it is, capitals of ASCII
// aside; 0 also where that is not known. `cased` has a bit for each character that it changes.
int turnout_text_plain(const u64* cased, const char* given, int size) {
  const u8* const text = reinterpret_cast<const u8*>(given);
  const auto more = [text](i64 i) { return text[i] & 63u; };
  for (i64 i = 0; i < size;) {
    const u32 lead = text[i];
    u32 code = lead;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if (lead < 0xE0) {
      code = (lead & 31u) << 6 | more(i + 1);
      i += 2;
    } else if (lead < 0xF0) {
      code = (lead & 15u) << 12 | more(i + 1) << 6 | more(i + 2);
      i += 3;
    } else {
      code = (lead & 7u) << 18 | more(i + 1) << 12 | more(i + 2) << 6 | more(i + 3);
      i += 4;
    }
    if (code >= CASED || (cased[code >> 6] >> (code & 63) & 1)) return 0;
  }
  return 1;
}

// Scores of a text of at most `limit` bytes.
void turnout_text_score(const Job* job, const char* text, int size) {
  score(*job, reinterpret_cast<const u8*>(text), size, 0.0);
}

// Expected quality and cost of a text, and which destination is best at the price; -1 where that is
// not one alone.
int turnout_text_decide(const Job* given, const char* text, int size) {
  const Job job = *given;
  score(job, reinterpret_cast<const u8*>(text), size, 0.0);
  squash(job);
  return choose(job);
}

// The 44 numbers of a text of at most as many characters as there is room for.
void turnout_text_form(const form::Room* room, const char* text, int size, float* out) {
  form::read(*room, reinterpret_cast<const u8*>(text), size, out);
}

// As `turnout_text_decide`, by a mixture; the text is given in lower case and as it came.
int turnout_text_mix(const Job* given, const Mix* with, const char* text, int size,
                     const char* plain, int length) {
  Job job = *given;
  mix(job, *with, reinterpret_cast<const u8*>(text), size, reinterpret_cast<const u8*>(plain),
      length);
  job.m = with->k;
  return choose(job);
}

}  // extern "C"
