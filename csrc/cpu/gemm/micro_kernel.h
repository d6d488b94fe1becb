// The register tile: up to tile_rows x tile_columns sums over one block of k.
#pragma once

#include "cpu/simd.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// As many accumulators as the registers hold beside the operands (32 registers with AVX-512, else 16).
#ifdef __AVX512F__
constexpr int tile_rows = 14, tile_vectors = 2;
#else
constexpr int tile_rows = 3, tile_vectors = 4;
#endif
constexpr int64_t tile_columns = tile_vectors * lanes;
constexpr int64_t strip_width =
    (tile_rows + lanes - 1) / lanes * lanes;  // floats per k of a packed strip of A

// c (rows, tile_columns) = or += a b.   a: (depth, strip_width), column r is row r of the tile.   b: (depth,
// tile_columns) Each sum starts at zero and runs over k in order, in every instance: its bits do not depend
// on the tile's height.
template <int rows>
static void micro_kernel(int64_t depth, const float* a, const float* b, float* c, int64_t ldc, bool add) {
  Vec sum[rows][tile_vectors] = {};
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < tile_columns; j += 16) __builtin_prefetch(c + r * ldc + j, 1);
  }
  for (int64_t l = 0; l < depth; ++l) {
    const float* a_l = a + l * strip_width;
    const float* b_l = b + l * tile_columns;
    __builtin_prefetch(a_l + 8 * strip_width);
    for (int64_t j = 0; j < tile_columns; j += 16) __builtin_prefetch(b_l + 8 * tile_columns + j);
    Vec b_vectors[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) b_vectors[v] = *reinterpret_cast<const Vec*>(b_l + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vec a_r = broadcast(a_l[r]);
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[r][v] += a_r * b_vectors[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      float* c_rv = c + r * ldc + v * lanes;
      store(c_rv, add ? load(c_rv) + sum[r][v] : sum[r][v]);
    }
  }
}

using MicroKernel = void (*)(int64_t depth, const float* a, const float* b, float* c, int64_t ldc, bool add);

// micro_kernels[rows - 1] is the instance of that height.
static constexpr MicroKernel micro_kernels[] = {
    micro_kernel<1>,  micro_kernel<2>,  micro_kernel<3>,
#ifdef __AVX512F__
    micro_kernel<4>,  micro_kernel<5>,  micro_kernel<6>,  micro_kernel<7>,  micro_kernel<8>,  micro_kernel<9>,
    micro_kernel<10>, micro_kernel<11>, micro_kernel<12>, micro_kernel<13>, micro_kernel<14>,
#endif
};
static_assert(sizeof(micro_kernels) / sizeof(MicroKernel) == tile_rows);

}  // namespace dragoman::cpu::DRAGOMAN_ISA
