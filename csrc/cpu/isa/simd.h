// The vector of float32 lanes that every CPU kernel computes with, and the functions on it. Loads widen
// bfloat16, stores round to it.
//
// The end of a row is a vector whose last lanes are off, never a scalar loop. So an element's bits do not
// depend on its place in the row. Loops over a row use each_vector, sum_of and largest_of.
#pragma once

#include <cstdint>

#include "core/dtype.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace dragoman::cpu::DRAGOMAN_ISA {

#if defined(__AVX512F__)
constexpr int64_t vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int64_t vector_bytes = 32;
#else
constexpr int64_t vector_bytes = 16;
#endif
constexpr int64_t lanes = vector_bytes / 4;

typedef float Vec __attribute__((vector_size(vector_bytes)));
typedef int32_t IntVec __attribute__((vector_size(vector_bytes)));
typedef uint32_t UintVec __attribute__((vector_size(vector_bytes)));
typedef uint16_t ShortVec __attribute__((vector_size(vector_bytes / 2)));
typedef Vec UnalignedVec __attribute__((aligned(4), may_alias));
typedef ShortVec UnalignedShortVec __attribute__((aligned(2), may_alias));

constexpr float infinity = __builtin_inff();

// -- Scalars --

static inline int64_t min_of(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t max_of(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// -- Loads and stores --

// Which lanes of a vector are in use: all of them, or the first `count` of 1 .. lanes - 1.
struct AllLanes {};
struct FirstLanes {
  int64_t count;
};

static inline Vec broadcast(float value) {
  return value - Vec{};
}

static inline Vec load(const float* from) {
  return *reinterpret_cast<const UnalignedVec*>(from);
}
static inline void store(float* to, Vec v) {
  *reinterpret_cast<UnalignedVec*>(to) = v;
}

// One instruction; gcc 12 makes five of __builtin_convertvector.
static inline UintVec zero_extend(ShortVec v) {
#if defined(__AVX512F__)
  return reinterpret_cast<UintVec>(_mm512_maskz_cvtepu16_epi32(0xFFFF, reinterpret_cast<__m256i>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<UintVec>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(v)));
#else
  return __builtin_convertvector(v, UintVec);
#endif
}

static inline Vec widen(ShortVec v) {
  return reinterpret_cast<Vec>(zero_extend(v) << 16);
}

// To the nearest bfloat16, ties to even.
static inline ShortVec narrow(Vec v) {
#ifdef __AVX512BF16__
  return reinterpret_cast<ShortVec>(_mm512_cvtneps_pbh(v));
#else
  const UintVec bits = reinterpret_cast<UintVec>(v);
  const UintVec rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  return __builtin_convertvector((v == v ? rounded : bits | 0x400000) >> 16, ShortVec);
#endif
}

static inline Vec load(const bfloat16* from) {
  return widen(*reinterpret_cast<const UnalignedShortVec*>(from));
}
static inline void store(bfloat16* to, Vec v) {
  *reinterpret_cast<UnalignedShortVec*>(to) = narrow(v);
}

// to (2 * lanes,)
template <class T>
static inline void store(T* to, Vec low, Vec high) {
#ifdef __AVX512BF16__
  if constexpr (sizeof(T) == 2) {
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    return _mm512_storeu_si512(to, reinterpret_cast<__m512i>(both));
  }
#endif
  store(to, low);
  store(to + lanes, high);
}

template <class T>
static inline Vec load(const T* from, AllLanes) {
  return load(from);
}
template <class T>
static inline void store(T* to, Vec v, AllLanes) {
  store(to, v);
}
static inline Vec keep(Vec v, AllLanes, float = 0.0f) {
  return v;
}

#ifdef __AVX512F__

static inline __mmask16 mask_of(FirstLanes part) {
  return static_cast<__mmask16>((1u << part.count) - 1);
}

// Lanes that are off read as 0.
static inline Vec load(const float* from, FirstLanes part) {
  return _mm512_maskz_loadu_ps(mask_of(part), from);
}
static inline void store(float* to, Vec v, FirstLanes part) {
  _mm512_mask_storeu_ps(to, mask_of(part), v);
}

static inline Vec load(const bfloat16* from, FirstLanes part) {
  return widen(reinterpret_cast<ShortVec>(_mm256_maskz_loadu_epi16(mask_of(part), from)));
}
static inline void store(bfloat16* to, Vec v, FirstLanes part) {
  _mm256_mask_storeu_epi16(to, mask_of(part), reinterpret_cast<__m256i>(narrow(v)));
}

// Lanes that are off become `fill`.
static inline Vec keep(Vec v, FirstLanes part, float fill = 0.0f) {
  return _mm512_mask_mov_ps(broadcast(fill), mask_of(part), v);
}

#else

template <class T>
static inline Vec load(const T* from, FirstLanes part) {
  T lane[lanes] = {};
  for (int64_t i = 0; i < part.count; ++i) lane[i] = from[i];
  return load(lane);
}

template <class T>
static inline void store(T* to, Vec v, FirstLanes part) {
  T lane[lanes];
  store(lane, v);
  for (int64_t i = 0; i < part.count; ++i) to[i] = lane[i];
}

static inline Vec keep(Vec v, FirstLanes part, float fill = 0.0f) {
  float lane[lanes];
  store(lane, v);
  for (int64_t i = part.count; i < lanes; ++i) lane[i] = fill;
  return load(lane);
}

#endif

// Stores past the caches, for a result that is larger than they are: its lines need not be read first. The
// addresses of whole vectors are multiples of their size. Call end_stream before other code uses the memory.
static inline void stream(float* to, Vec v, AllLanes) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, v);
#else
  store(to, v);
#endif
}
static inline void stream(bfloat16* to, Vec v, AllLanes) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(narrow(v)));
#elif defined(__AVX2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(narrow(v)));
#else
  store(to, v);
#endif
}
template <class T>
static inline void stream(T* to, Vec v, FirstLanes part) {
  store(to, v, part);
}
static inline void end_stream() {
#ifdef __AVX2__
  _mm_sfence();
#endif
}

// -- Elementwise --

// A NaN in b gives NaN; a NaN in a is ignored. (gcc 12 warns about its own header's unmasked intrinsics.)
#ifdef __AVX512F__
static inline Vec vmax(Vec a, Vec b) {
  return _mm512_maskz_max_ps(0xFFFF, a, b);
}
static inline Vec vmin(Vec a, Vec b) {
  return _mm512_maskz_min_ps(0xFFFF, a, b);
}
#else
static inline Vec vmax(Vec a, Vec b) {
  return a > b ? a : b;
}
static inline Vec vmin(Vec a, Vec b) {
  return a < b ? a : b;
}
#endif

static inline Vec vsqrt(Vec v) {
  for (int64_t i = 0; i < lanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}

// 0 for denormals. A value that decays towards 0 would stay denormal, and operations on denormals are slow.
static inline Vec without_denormals(Vec v) {
  constexpr float smallest_normal = 1.17549435e-38f;
  return (v < 0.0f ? -v : v) < smallest_normal ? Vec{} : v;
}

constexpr float log2_e = 1.44269504f;

// 2^x to about 1 ulp, for x up to 127. Below -126 it is 0, because denormals are slow. NaN gives NaN.
static inline Vec vexp2(Vec x) {
  const Vec bounded = vmax(broadcast(-126.0f), x);
#ifdef __AVX512F__
  const Vec k = _mm512_maskz_roundscale_ps(0xFFFF, bounded, _MM_FROUND_TO_NEAREST_INT);
#else
  constexpr float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded value in the low bits
  const Vec shifted = bounded + to_integer;
  const Vec k = shifted - to_integer;
#endif
  const Vec r = bounded - k;
  Vec p = 1.326472614891827e-3f * r + 9.671512991189957e-3f;
  p = p * r + 5.550733581185341e-2f;
  p = p * r + 2.4022242426872253e-1f;
  p = p * r + 6.931470036506653e-1f;
  p = p * r + 1.0f;
#ifdef __AVX512F__
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, broadcast(-126.0f), _CMP_NLT_UQ), p, k);
#else
  const IntVec exponent = (reinterpret_cast<IntVec>(shifted) - (0x4B400000 - 127)) << 23;
  const Vec result = p * reinterpret_cast<Vec>(exponent);
  return x < -126.0f ? Vec{} : result;
#endif
}

// e^x to about 2 ulp. For x below -86.9 it is 0, as denormals are slow; NaN for NaN.
static inline Vec vexp(Vec x) {
  constexpr float to_integer = 12582912.0f;                            // as in vexp2
  constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;  // ln2_high * k is exact
  const Vec bounded = vmax(broadcast(-90.0f), vmin(broadcast(89.0f), x));
  const Vec k = (bounded * log2_e + to_integer) - to_integer;
  const Vec r = (bounded - k * ln2_high) - k * ln2_low;
  return vexp2(r * log2_e) * 2.0f * vexp2(k - 1.0f);  // 2^k itself may be above the range
}

static inline Vec vlog(Vec v) {
  for (int64_t i = 0; i < lanes; ++i) v[i] = __builtin_logf(v[i]);
  return v;
}

// The standard normal distribution: Phi(x) and its density.
struct Normal {
  Vec cdf, pdf;
};

// Phi(-a) = e^(-a^2 / 2) q(1 / (1 + 0.3 a)) for a >= 0, q a polynomial: relative error under 1e-7 besides the
// exponential's.
static inline Normal normal(Vec x) {
  const Vec a = x < 0.0f ? -x : x;
  const Vec e = vexp2(a * a * (-0.5f * log2_e));
  const Vec t = 1.0f / (a * 0.3f + 1.0f);
  Vec q = 3.831153035e-2f * t - 1.688411961e-1f;
  q = q * t + 2.279879207e-1f;
  q = q * t - 7.573648268e-2f;
  q = q * t + 1.420027181e-1f;
  q = q * t + 9.491095023e-2f;
  q = q * t + 1.218620138e-1f;
  q = q * t + 1.194958880e-1f;
  q = q * t + 6.686105256e-6f;
  const Vec tail = e * q;
  return {x < 0.0f ? tail : 1.0f - tail, e * 0.398942280f};
}

// -- Across lanes --

// Combines the two halves of the vector until one lane is left: one fixed order.
template <class Combine>
static inline __attribute__((always_inline)) float fold_lanes(Vec v, const Combine& combine) {
#ifdef __AVX512F__
  v = combine(v, _mm512_maskz_shuffle_f32x4(0xFFFF, v, v, 0x4E));
  v = combine(v, _mm512_maskz_shuffle_f32x4(0xFFFF, v, v, 0xB1));
  v = combine(v, _mm512_maskz_permute_ps(0xFFFF, v, 0x4E));
  v = combine(v, _mm512_maskz_permute_ps(0xFFFF, v, 0xB1));
#else
#pragma GCC unroll 3
  for (int32_t half = lanes / 2; half > 0; half /= 2) {
    IntVec partner;
    for (int32_t i = 0; i < lanes; ++i) partner[i] = i ^ half;
    v = combine(v, __builtin_shuffle(v, partner));
  }
#endif
  return v[0];
}

static inline float sum_lanes(Vec v) {
  return fold_lanes(v, [](Vec a, Vec b) { return a + b; });
}

static inline float max_lanes(Vec v) {
  return fold_lanes(v, [](Vec a, Vec b) { return vmax(a, b); });
}

// -- Element types --

// Calls body(float()) or body(bfloat16()): the dtype becomes a template parameter.
template <class Body>
static inline __attribute__((always_inline)) void with_dtype(DType dtype, const Body& body) {
  if (dtype == DType::bfloat16) {
    body(bfloat16());
  } else {
    body(float());
  }
}

// -- Loops over `size` elements --

// Calls body(first element, AllLanes or FirstLanes) for each vector in turn.
template <class Body>
static inline __attribute__((always_inline)) void each_vector(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) body(i, AllLanes{});
  if (i < size) body(i, FirstLanes{size - i});
}

// Sum of value(first element, part) over all elements, in four vectors that are added at the end.
template <class Value>
static inline __attribute__((always_inline)) float sum_of(int64_t size, const Value& value) {
  Vec sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    for (int64_t j = 0; j < 4; ++j) sum[j] += value(i + j * lanes, AllLanes{});
  }
  for (; i + lanes <= size; i += lanes) sum[0] += value(i, AllLanes{});
  if (i < size) sum[1] += keep(value(i, FirstLanes{size - i}), FirstLanes{size - i});
  return sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// Largest of value(first element, part) over all elements; -infinity when there are none.
template <class Value>
static inline __attribute__((always_inline)) float largest_of(int64_t size, const Value& value) {
  Vec maximum[4];
  for (int64_t j = 0; j < 4; ++j) maximum[j] = broadcast(-infinity);
  int64_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    for (int64_t j = 0; j < 4; ++j) maximum[j] = vmax(value(i + j * lanes, AllLanes{}), maximum[j]);
  }
  for (; i + lanes <= size; i += lanes) maximum[0] = vmax(value(i, AllLanes{}), maximum[0]);
  if (i < size) {
    const FirstLanes part{size - i};
    maximum[1] = vmax(keep(value(i, part), part, -infinity), maximum[1]);
  }
  return max_lanes(vmax(vmax(maximum[0], maximum[1]), vmax(maximum[2], maximum[3])));
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
