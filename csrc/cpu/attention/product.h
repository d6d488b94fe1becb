// Products of attention's small matrices, and the copies of q, k, v and dout that they read.
//
// As in the matrix product, sums run over units of 32 bits: one float32, or two bfloat16 where an instruction
// multiplies pairs of them.
#pragma once

#include "cpu/gemm/tile_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

template <class T>
struct UnitsFor;
template <>
struct UnitsFor<float> {
  using type = Singles;
};
template <>
struct UnitsFor<bfloat16> {
  using type = Pairs;
};

// Units of two bfloat16, one of each vector.
static inline Vec pairs_of(Vec first, Vec second) {
  const UintVec low = zero_extend(narrow(first));
  return reinterpret_cast<Vec>(low | zero_extend(narrow(second)) << 16);
}

// -- The register tile --

// The largest number of accumulators that leaves registers for the operands (32 registers with AVX-512, else
// 16).
#ifdef __AVX512F__
constexpr int64_t vector_tile_rows = 12;
#else
constexpr int64_t vector_tile_rows = 6;
#endif
template <class Units>
constexpr int64_t tile_rows = Units::group > 1 ? 32 : vector_tile_rows;

// c (R, V * lanes) = a b, or c += a b.   a: (R, depth), or by_units (depth, R)   b: (depth, V * lanes)
// Each sum starts at zero and runs over the depth in order: its bits do not depend on R and V.
template <class Units, bool by_units, int64_t R, int64_t V>
static void product_tile(int64_t depth, const float* a, int64_t a_row, const float* b, int64_t b_row,
                         float* c, int64_t c_row, bool add) {
  Vec sum[R][V] = {};
  // x86 addresses base + {0,1,2} * stride directly, so one pointer covers three rows.
  const float* row_base[(R + 2) / 3];
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; i += 3) row_base[i / 3] = a + i * a_row;
  for (int64_t l = 0; l < depth; ++l, b += b_row) {
    Vec b_l[V];
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) b_l[v] = load(b + v * lanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < R; ++i) {
      const Vec a_il = broadcast_unit(by_units ? a + i : row_base[i / 3] + i % 3 * a_row);
#pragma GCC unroll 2
      for (int64_t v = 0; v < V; ++v) sum[i][v] = Units::multiply_add(sum[i][v], a_il, b_l[v]);
    }
    if (by_units) a += a_row;
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; i += 3) ++row_base[i / 3];
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) {
      float* c_iv = c + i * c_row + v * lanes;
      store(c_iv, add ? load(c_iv) + sum[i][v] : sum[i][v]);
    }
  }
}

// Instances for two vectors of columns, and for one.
using Tile = void (*)(int64_t depth, const float* a, int64_t a_row, const float* b, int64_t b_row, float* c,
                      int64_t c_row, bool add);
struct Tiles {
  Tile whole, half;
};

template <class Units, bool by_units>
static Tiles tiles_of(int64_t rows) {
  if constexpr (Units::group > 1) {
    static constexpr Tiles heights[] = {{tile_kernel<Units, 16, 32>, tile_kernel<Units, 16, 16>},
                                        {tile_kernel<Units, 32, 32>, tile_kernel<Units, 32, 16>}};
    return heights[(rows - 1) / 16];
  } else {
    static constexpr Tiles heights[] = {
        {product_tile<Units, by_units, 2, 2>, product_tile<Units, by_units, 2, 1>},
        {product_tile<Units, by_units, 4, 2>, product_tile<Units, by_units, 4, 1>},
        {product_tile<Units, by_units, 6, 2>, product_tile<Units, by_units, 6, 1>},
#ifdef __AVX512F__
        {product_tile<Units, by_units, 8, 2>, product_tile<Units, by_units, 8, 1>},
        {product_tile<Units, by_units, 10, 2>, product_tile<Units, by_units, 10, 1>},
        {product_tile<Units, by_units, 12, 2>, product_tile<Units, by_units, 12, 1>},
#endif
    };
    static_assert(sizeof(heights) / sizeof(Tiles) == vector_tile_rows / 2);
    return heights[(rows - 1) / 2];
  }
}

// Numbers of rows are rounded up to a multiple of this.
template <class Units>
constexpr int64_t row_step = Units::group > 1 ? 16 : 2;

// c (rows, columns) = a b, or c += a b, for up to tile_rows rows.   b: (depth, columns)
// a: (rows, depth), or by_units (depth, rows), which is for vectors alone. Rows are rounded up to row_step.
// `columns` is a multiple of lanes. Panels of tile_columns of b begin `panel` floats apart. The depth is in
// whole groups.
template <class Units, bool by_units = false>
static void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t a_row,
                    const float* b, int64_t b_row, int64_t panel, float* c, int64_t c_row, bool add) {
  const Tiles tiles = tiles_of<Units, by_units>(rows);
  for (int64_t j = 0; j < columns; j += tile_columns, b += panel) {
    const Tile tile = columns - j >= tile_columns ? tiles.whole : tiles.half;
    tile(depth, a, a_row, b, b_row, c + j, c_row, add);
  }
}

// Packs a left matrix (count, size) as units into (count, stride), with rows of zeros up to row_step. row(i)
// is the address of row i. Prefetches the row after it, which often belongs to the next head.
template <class Units, class RowOf>
static void pack_rows(int64_t count, int64_t size, const RowOf& row, float* to, int64_t stride) {
  for (int64_t i = 0; i < count; ++i, to += stride) {
    const auto* from = row(i);
    for (int64_t u = 0; u < stride; u += lanes) {
      const int64_t d = u * Units::elements;
      __builtin_prefetch(from + size + d, 0, 2);
      store(to + u, d < size ? Units::along_k(from + d, size - d) : Vec{});
    }
  }
  zero(to, (round_up(count, row_step<Units>) - count) * stride);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
