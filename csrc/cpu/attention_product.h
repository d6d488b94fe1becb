// Products of attention's small matrices, and the copies of q, k, v and dout that they read.
//
// As in the matrix product, sums run over units of 32 bits: one float32, or two bfloat16 where an instruction
// multiplies pairs of them.
#pragma once

#include "cpu/gemm/panels.h"

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

// As many accumulators as the registers hold beside the operands (32 registers with AVX-512, else 16).
#ifdef __AVX512F__
constexpr int64_t tile_rows = 12;
#else
constexpr int64_t tile_rows = 6;
#endif

// How a left matrix lies: unit l of row i is a[i * stride + l], or a[l * stride + i].
enum class Order { rows, units };

// c (R, V * lanes) = a b, or c += a b.   a: (R, depth)   b: (depth, tile_columns)
// Each sum starts at zero and runs over the depth in order: its bits do not depend on R and V.
template <class Units, Order order, int64_t R, int64_t V>
static void product_tile(int64_t depth, const float* a, int64_t stride, const float* b, float* c,
                         int64_t c_stride, bool add) {
  Vec sum[R][V] = {};
  // A pointer serves three rows: their distances are what an x86 address can hold.
  const float* third[(R + 2) / 3];
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; i += 3) third[i / 3] = a + (order == Order::rows ? i * stride : i);
  for (int64_t l = 0; l < depth; ++l) {
    Vec b_l[V];
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) b_l[v] = load(b + l * tile_columns + v * lanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < R; ++i) {
      const Vec a_il = broadcast_unit(third[i / 3] + i % 3 * (order == Order::rows ? stride : 1));
#pragma GCC unroll 2
      for (int64_t v = 0; v < V; ++v) sum[i][v] = Units::multiply_add(sum[i][v], a_il, b_l[v]);
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; i += 3) third[i / 3] += order == Order::rows ? 1 : stride;
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) {
      float* c_iv = c + i * c_stride + v * lanes;
      store(c_iv, add ? load(c_iv) + sum[i][v] : sum[i][v]);
    }
  }
}

template <class Units, Order order, int64_t R>
static void product_rows(int64_t columns, int64_t depth, const float* a, int64_t stride, const float* b,
                         int64_t panel, float* c, int64_t c_stride, bool add) {
  for (int64_t j = 0; j < columns; j += tile_columns, b += panel) {
    if (columns - j >= tile_columns) {
      product_tile<Units, order, R, tile_vectors>(depth, a, stride, b, c + j, c_stride, add);
    } else {
      product_tile<Units, order, R, 1>(depth, a, stride, b, c + j, c_stride, add);
    }
  }
}

// c (rows, columns) = a b, or c += a b, for up to tile_rows rows; an odd count computes one row more.
// `columns` is a multiple of lanes; b's panels of tile_columns lie `panel` floats apart.
template <class Units, Order order>
static void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t stride,
                    const float* b, int64_t panel, float* c, int64_t c_stride, bool add) {
  using Rows =
      void (*)(int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*, int64_t, bool);
  static constexpr Rows heights[] = {
      product_rows<Units, order, 2>, product_rows<Units, order, 4>,  product_rows<Units, order, 6>,
#ifdef __AVX512F__
      product_rows<Units, order, 8>, product_rows<Units, order, 10>, product_rows<Units, order, 12>,
#endif
  };
  static_assert(sizeof(heights) / sizeof(Rows) == tile_rows / 2);
  heights[(rows - 1) / 2](columns, depth, a, stride, b, panel, c, c_stride, add);
}

// A left matrix (count, size) as units, to (round_up(count, 2), stride), padded with zeros; row(i) is where
// row i begins.
template <class Units, class RowOf>
static void pack_rows(int64_t count, int64_t size, const RowOf& row, float* to, int64_t stride) {
  for (int64_t i = 0; i < round_up(count, 2); ++i) {
    for (int64_t u = 0; u < stride; u += lanes) {
      const int64_t d = u * Units::elements;
      store(to + i * stride + u, i < count && d < size ? Units::along_k(row(i) + d, size - d) : Vec{});
    }
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
