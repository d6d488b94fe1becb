// The register tile: up to tile_rows x tile_columns sums over one block of k.
#pragma once

#include "cpu/gemm/tile_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// The largest number of accumulators that leaves registers for the operands (32 registers with AVX-512, else
// 16).
#ifdef __AVX512F__
constexpr int64_t vector_tile_rows = 14;
#else
constexpr int64_t vector_tile_rows = 6;
#endif
template <class Units>
constexpr int64_t tile_rows = Units::group > 1 ? 32 : vector_tile_rows;

// Units of k that are summed in registers before the sum goes to memory. The same for every product, because
// the boundaries of partial sums decide a result's bits.
constexpr int64_t depth_block = 256;

// How far ahead of its use b is fetched, 4 KiB: a packed B that is read once comes from memory.
constexpr int64_t prefetched = 1024;

// The two layouts of a strip of A (tile_rows rows, depth_block units): row after row, or unit after unit.
// The 16 extra units of a row: rows at a distance of a power of two would fall in the same cache sets.
template <class Units>
struct ByRows {
  static constexpr int64_t row = depth_block + 16, unit = 1;
};
struct ByUnits {
  static constexpr int64_t row = 1, unit = vector_tile_rows;
};

// tile (rows, tile_columns) = a b.   a: a strip.   b: (depth, tile_columns)
// Each sum starts at zero and runs over k in order, in every instance: its bits do not depend on the tile's
// height.
template <class Units, class Strip, int rows>
static void micro_kernel(int64_t depth, const float* a, const float* b, float* tile) {
  Vec sum[rows][tile_vectors] = {};
  for (int64_t l = 0; l < depth; ++l) {
    const float* a_l = a + l * Strip::unit;
    const float* b_l = b + l * tile_columns;
    for (int64_t j = 0; j < tile_columns; j += 16) __builtin_prefetch(b_l + prefetched + j);
    Vec b_vectors[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) b_vectors[v] = load(b_l + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vec a_r = broadcast_unit(a_l + r * Strip::row);
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[r][v] = Units::multiply_add(sum[r][v], a_r, b_vectors[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      store(tile + r * tile_columns + v * lanes, sum[r][v]);
    }
  }
}

using MicroKernel = void (*)(int64_t depth, const float* a, const float* b, float* tile);

// micro_kernels[rows - 1] computes that number of rows.
template <class Units, class Strip>
static constexpr MicroKernel micro_kernels[] = {
    micro_kernel<Units, Strip, 1>,  micro_kernel<Units, Strip, 2>,  micro_kernel<Units, Strip, 3>,
    micro_kernel<Units, Strip, 4>,  micro_kernel<Units, Strip, 5>,  micro_kernel<Units, Strip, 6>,
#ifdef __AVX512F__
    micro_kernel<Units, Strip, 7>,  micro_kernel<Units, Strip, 8>,  micro_kernel<Units, Strip, 9>,
    micro_kernel<Units, Strip, 10>, micro_kernel<Units, Strip, 11>, micro_kernel<Units, Strip, 12>,
    micro_kernel<Units, Strip, 13>, micro_kernel<Units, Strip, 14>,
#endif
};
static_assert(sizeof(micro_kernels<Singles, ByUnits>) / sizeof(MicroKernel) == vector_tile_rows);

// c (rows, tile_columns) = a panel, or c += a panel, over `depth` units. The memory of a and c covers whole
// tiles.
template <class Units>
static void tile_product(int64_t rows, int64_t depth, const float* a, int64_t a_row, const float* panel,
                         float* c, int64_t c_row, bool add) {
  const auto kernel = rows > 16 ? tile_kernel<Units, 32, tile_columns> : tile_kernel<Units, 16, tile_columns>;
  kernel(depth, a, a_row, panel, tile_columns, c, c_row, add);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
