// The register tile of a product of uint8 and int8: sums over all of k, exact in int32.
//
// k runs over units. A unit of A has 32 bits. With VNNI it holds four uint8, which VPDPBUSD multiplies by
// four int8 of B. Elsewhere it holds two uint8 widened to int16, and two int8 of B are widened when they are
// loaded: B takes one byte an element in memory on every machine. No instruction here saturates.
#pragma once

#include "cpu/gemm/micro_kernel.h"

#if defined(__SSE2__) && !defined(__AVX2__)
#include <emmintrin.h>
#endif

namespace dragoman::cpu::DRAGOMAN_ISA {

#ifdef __AVX512VNNI__
using Left = uint8_t;
#else
using Left = int16_t;
#endif

constexpr int64_t left_unit = 4;                             // bytes of a unit of A
constexpr int64_t int8_elements = left_unit / sizeof(Left);  // elements of a unit: the bytes of a unit of B
constexpr int64_t int8_group = Quads::group > 1 ? Quads::group : 4;  // k has whole groups of this many units

// Number of units that hold k elements. Those of B beyond k are zeros, so those of A may be anything.
static inline int64_t int8_units(int64_t k) {
  return round_up(divide_up(k, int8_elements), int8_group);
}

typedef int8_t Columns __attribute__((vector_size(lanes * int8_elements)));
typedef Columns UnalignedColumns __attribute__((aligned(1), may_alias));

// A unit of each of `lanes` columns of B, as multiply_add takes it.
static inline IntVec load_columns(const int8_t* b) {
  const Columns bytes = *reinterpret_cast<const UnalignedColumns*>(b);
#if defined(__AVX512VNNI__)
  return reinterpret_cast<IntVec>(bytes);
#elif defined(__AVX512F__)
  return reinterpret_cast<IntVec>(_mm512_cvtepi8_epi16(reinterpret_cast<__m256i>(bytes)));
#elif defined(__AVX2__)
  return reinterpret_cast<IntVec>(_mm256_cvtepi8_epi16(reinterpret_cast<__m128i>(bytes)));
#else
  typedef int16_t Widened __attribute__((vector_size(vector_bytes)));
  return reinterpret_cast<IntVec>(__builtin_convertvector(bytes, Widened));
#endif
}

static inline IntVec int8_multiply_add(IntVec sum, IntVec a, IntVec b) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<IntVec>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512F__)
  return sum + reinterpret_cast<IntVec>(
                   _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return sum + reinterpret_cast<IntVec>(
                   _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return sum +
         reinterpret_cast<IntVec>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  const IntVec a0 = (a << 16) >> 16, a1 = a >> 16, b0 = (b << 16) >> 16, b1 = b >> 16;
  return sum + a0 * b0 + a1 * b1;
#endif
}

static inline IntVec broadcast_left(const Left* a) {
  int32_t unit;
  __builtin_memcpy(&unit, a, sizeof(unit));
  return unit - IntVec{};
}

// sums (rows, tile_columns) = a panel.   a (rows, units): its rows are a_row elements apart.
// One row has too few sums to hide the instruction's latency: it takes the units of k in turns.
template <int rows>
static void int8_kernel(int64_t units, const Left* a, int64_t a_row, const int8_t* panel, int32_t* sums) {
  constexpr int turns = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  static_assert(int8_group % turns == 0);
  constexpr int64_t step = tile_columns * int8_elements;
  constexpr int64_t ahead = 4096;  // bytes of the panel, or of the next one
  IntVec sum[turns][rows][tile_vectors] = {};
  for (int64_t l = 0; l < units; l += turns) {
#pragma GCC unroll 4
    for (int turn = 0; turn < turns; ++turn, a += int8_elements, panel += step) {
      for (int64_t byte = 0; byte < step; byte += 64) __builtin_prefetch(panel + ahead + byte);
      IntVec b[tile_vectors];
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) b[v] = load_columns(panel + v * lanes * int8_elements);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const IntVec a_r = broadcast_left(a + r * a_row);
#pragma GCC unroll 4
        for (int v = 0; v < tile_vectors; ++v) {
          sum[turn][r][v] = int8_multiply_add(sum[turn][r][v], a_r, b[v]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      IntVec total = sum[0][r][v];
      for (int turn = 1; turn < turns; ++turn) total += sum[turn][r][v];
      __builtin_memcpy(sums + r * tile_columns + v * lanes, &total, sizeof(total));
    }
  }
}

using Int8Kernel = void (*)(int64_t units, const Left* a, int64_t a_row, const int8_t* panel, int32_t* sums);

// int8_kernels[rows - 1] computes that number of rows.
static constexpr Int8Kernel int8_kernels[] = {
    int8_kernel<1>,  int8_kernel<2>,  int8_kernel<3>, int8_kernel<4>,  int8_kernel<5>,  int8_kernel<6>,
#ifdef __AVX512F__
    int8_kernel<7>,  int8_kernel<8>,  int8_kernel<9>, int8_kernel<10>, int8_kernel<11>, int8_kernel<12>,
    int8_kernel<13>, int8_kernel<14>,
#endif
};
static_assert(sizeof(int8_kernels) / sizeof(Int8Kernel) == vector_tile_rows);

constexpr int64_t int8_tile_rows = Quads::group > 1 ? 32 : vector_tile_rows;

// sums (rows, tile_columns) = a panel, for up to int8_tile_rows rows. With tile registers the memory of `a`
// and `sums` covers whole tiles.
static inline void int8_tile(int64_t rows, int64_t units, const Left* a, int64_t a_row, const int8_t* panel,
                             int32_t* sums) {
  if constexpr (Quads::group > 1) {
    const auto* left = reinterpret_cast<const float*>(a);
    const auto* right = reinterpret_cast<const float*>(panel);
    const auto kernel =
        rows > 16 ? tile_kernel<Quads, 32, tile_columns> : tile_kernel<Quads, 16, tile_columns>;
    kernel(units, left, a_row / int8_elements, right, tile_columns, reinterpret_cast<float*>(sums),
           tile_columns, false);
  } else {
    int8_kernels[rows - 1](units, a, a_row, panel, sums);
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
