// k runs over units of 32 bits. A unit holds one float32 or two bfloat16.
#pragma once

#include "cpu/isa/simd.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
static constexpr int64_t round_up(int64_t a, int64_t b) {
  return divide_up(a, b) * b;
}

// Each struct has:
//   elements: elements of k in a unit;
//   group: k is summed in whole groups of this many units, and packed matrices end with units of zeros;
//   along_k(from, count): `lanes` units that follow each other in k; zeros after the first `count` elements;
//   across_k(from, ld, count, part): one unit of each of `lanes` neighbours. Elements of a unit are ld apart;
//     the first `count` exist, the others are zeros;
//   multiply_add(sum, a, b).
// A vector of units has the type Vec, whatever the units hold: loads, stores and shuffles keep the bits.

// float32, or bfloat16 widened.
struct Singles {
  static constexpr int64_t elements = 1, group = 1;

  template <class T>
  static inline Vec along_k(const T* from, int64_t count) {
    return count >= lanes ? load(from) : load(from, FirstLanes{count});
  }
  template <class T, class Part>
  static inline Vec across_k(const T* from, int64_t, int64_t, Part part) {
    return load(from, part);
  }
  static inline Vec multiply_add(Vec sum, Vec a, Vec b) { return sum + a * b; }
};

// An instruction of AMX multiplies tiles of 16 rows by 16 units.
#ifdef __AMX_TILE__
constexpr int64_t tile_group = 16;
#else
constexpr int64_t tile_group = 1;
#endif

// Four int8, for tile registers alone: gemm/int8_kernel.h has the vectors' units.
struct Quads {
  static constexpr int64_t elements = 4, group = tile_group;
};

#ifdef __AVX512BF16__

// Two bfloat16, the first in the lower half.
struct Pairs {
  static constexpr int64_t elements = 2, group = tile_group;

  static inline Vec along_k(const bfloat16* from, int64_t count) {
    const __mmask32 mask = count >= 32 ? 0xFFFFFFFF : (1u << count) - 1;
    return reinterpret_cast<Vec>(_mm512_maskz_loadu_epi16(mask, from));
  }
  template <class Part>
  static inline Vec across_k(const bfloat16* from, int64_t ld, int64_t count, Part part) {
    const UintVec first = reinterpret_cast<UintVec>(load(from, part)) >> 16;
    if (count < 2) return reinterpret_cast<Vec>(first);
    return reinterpret_cast<Vec>(first | reinterpret_cast<UintVec>(load(from + ld, part)));
  }
  static inline Vec multiply_add(Vec sum, Vec a, Vec b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

#else
using Pairs = Singles;
#endif

template <class Units>
constexpr int64_t group_elements = Units::group * Units::elements;

// Number of units that hold `elements` elements of k, rounded up to whole groups.
template <class Units>
static inline int64_t units_of(int64_t elements) {
  return round_up(divide_up(elements, Units::elements), Units::group);
}

// The same unit in every lane; the bits are not converted.
static inline Vec broadcast_unit(const float* unit) {
  int32_t bits;
  __builtin_memcpy(&bits, unit, sizeof(bits));
  return reinterpret_cast<Vec>(bits - IntVec{});
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
