// Vectors of floats in the compiler's own portable notation, as wide as the processor has them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace turnout {

using i64 = std::int64_t;
using i32 = std::int32_t;

// LANES floats make a vector; a tile of TILE rows and PANEL columns fills the register file.
#if defined(__AVX512F__)
constexpr int LANES = 16, TILE = 12;
#elif defined(__AVX__)
constexpr int LANES = 8, TILE = 6;
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE = 6;
#else
constexpr int LANES = 4, TILE = 3;
#endif
constexpr int PANEL = 16, VECS = PANEL / LANES;
// A panel that is half full is stored and computed at half its width, where a vector is no wider.
constexpr int HALF = LANES <= 8 ? 8 : 16, HALF_VECS = HALF / LANES;

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::int32_t vi __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::uint32_t vu __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::uint16_t vh __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

#define TURNOUT_INLINE inline __attribute__((always_inline))
#define TURNOUT_UNROLL _Pragma("GCC unroll 16")

struct bf16 {
  std::uint16_t bits;
};

TURNOUT_INLINE vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }

TURNOUT_INLINE vf load(const bf16* p) {
  const vh bits = *reinterpret_cast<const vh*>(p);
  return (vf)(__builtin_convertvector(bits, vu) << 16);
}

TURNOUT_INLINE void store(float* p, vf v) { *reinterpret_cast<vf*>(p) = v; }

// Rounds to the nearest, ties to even; what is not a number stays so.
TURNOUT_INLINE void store(bf16* p, vf v) {
  const vu bits = (vu)v;
  vu up = bits + 0x7fffu + ((bits >> 16) & 1u);
  up = v == v ? up : (bits | 0x400000u);
  *reinterpret_cast<vh*>(p) = __builtin_convertvector(up >> 16, vh);
}

TURNOUT_INLINE float scalar(float v) { return v; }

TURNOUT_INLINE float scalar(bf16 v) {
  const std::uint32_t bits = static_cast<std::uint32_t>(v.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

TURNOUT_INLINE vf splat(float b) {
#if defined(__AVX512F__)
  return (vf)_mm512_set1_ps(b);
#elif defined(__AVX__)
  return (vf)_mm256_set1_ps(b);
#else
  return vf{b, b, b, b};
#endif
}

// Keeps a loaded value in a register: without it compilers load it anew for every use.
TURNOUT_INLINE void pin(vf& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

TURNOUT_INLINE float total(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX__)
  const __m256 all = (__m256)v;
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  float sum = 0;
  for (int i = 0; i < LANES; ++i) sum += v[i];
  return sum;
#endif
}

// Eight runs of eight floats, turned: float c of run r goes to out[c * ldo + r].
TURNOUT_INLINE void turn(const float* const* runs, float* out, i64 ldo) {
#if defined(__AVX__)
  __m256 a[8], b[8];
  TURNOUT_UNROLL
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_ps(runs[r]);
  TURNOUT_UNROLL
  for (int r = 0; r < 8; r += 2) {
    b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
    b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
  }
  TURNOUT_UNROLL
  for (int r = 0; r < 8; r += 4) {
    a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44);
    a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xee);
    a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44);
    a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xee);
  }
  TURNOUT_UNROLL
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(out + c * ldo, _mm256_permute2f128_ps(a[c], a[c + 4], 0x20));
    _mm256_storeu_ps(out + (c + 4) * ldo, _mm256_permute2f128_ps(a[c], a[c + 4], 0x31));
  }
#else
  for (int c = 0; c < 8; ++c)
    for (int r = 0; r < 8; ++r) out[c * ldo + r] = runs[r][c];
#endif
}

// e^v to two units in the last place between -87 and 88, and the value at the nearer end beyond.
TURNOUT_INLINE vf exponential(vf v) {
  const vf low = splat(-87.33654f), high = splat(88.37626f);
  v = v > high ? high : v;
  v = v < low ? low : v;
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const vf whole = v * splat(1.44269504f) + magic;
  const vf n = whole - magic;
  vf r = v - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * r * r + r + splat(1.0f);
  const vi power = ((vi)whole - (vi)magic + 127) << 23;
  return p * (vf)power;
}

TURNOUT_INLINE vf sigmoid(vf v) { return splat(1.0f) / (splat(1.0f) + exponential(-v)); }

// Phi(v) of the normal distribution, by the error function's rational approximation with an error
// below 1.5e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.26); `bell`
// receives e^(-v^2 / 2).
TURNOUT_INLINE vf normal(vf v, vf& bell) {
  const vf z = (v < splat(0.0f) ? -v : v) * splat(0.70710678f);
  bell = exponential(-z * z);
  const vf s = splat(1.0f) / (splat(1.0f) + splat(0.3275911f) * z);
  vf p = splat(1.061405429f);
  p = p * s + splat(-1.453152027f);
  p = p * s + splat(1.421413741f);
  p = p * s + splat(-0.284496736f);
  p = p * s + splat(0.254829592f);
  const vf tail = splat(0.5f) * p * s * bell;
  return v < splat(0.0f) ? tail : splat(1.0f) - tail;
}

// What the experts may apply between their two products; the numbers are those of _call.py.
enum Act { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, RELU2 = 4 };

template <int ACT>
TURNOUT_INLINE vf act(vf v) {
  const vf zero = splat(0.0f);
  if (ACT == SILU) return v * sigmoid(v);
  if (ACT == GELU) {
    vf bell;
    return v * normal(v, bell);
  }
  if (ACT == GELU_TANH) {
    const vf u = splat(1.5957691216f) * (v + splat(0.044715f) * v * v * v);
    return v * sigmoid(u);  // (1 + tanh(u / 2)) / 2 is the sigmoid of u
  }
  const vf kept = v > zero ? v : (v == v ? zero : v);
  return ACT == RELU ? kept : kept * kept;
}

// The value, and its derivative in `slope`.
template <int ACT>
TURNOUT_INLINE vf act_slope(vf v, vf& slope) {
  const vf zero = splat(0.0f), one = splat(1.0f);
  if (ACT == SILU) {
    const vf s = sigmoid(v);
    slope = s * (one + v * (one - s));
    return v * s;
  }
  if (ACT == GELU) {
    vf bell;
    const vf phi = normal(v, bell);
    slope = phi + v * bell * splat(0.39894228f);
    return v * phi;
  }
  if (ACT == GELU_TANH) {
    const vf c = splat(1.5957691216f), a = splat(0.044715f);
    const vf s = sigmoid(c * (v + a * v * v * v));
    slope = s + v * s * (one - s) * c * (one + splat(3.0f) * a * v * v);
    return v * s;
  }
  const vf kept = v > zero ? v : (v == v ? zero : v);
  if (ACT == RELU) {
    slope = v > zero ? one : (v == v ? zero : v);
    return kept;
  }
  slope = kept + kept;
  return kept * kept;
}

}  // namespace turnout
