// Copies of A and B as units, in the order in which the register tile reads them.
#pragma once

#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// One step of the transpose of a lanes x lanes block: exchanges its off-diagonal squares of side `step`.
template <int step>
static inline __attribute__((always_inline)) void exchange_squares(Vec (&rows)[lanes]) {
  IntVec upper_mask, lower_mask;
  for (int32_t j = 0; j < lanes; ++j) {
    upper_mask[j] = (j & step) != 0 ? static_cast<int32_t>(lanes) + j - step : j;
    lower_mask[j] = (j & step) != 0 ? static_cast<int32_t>(lanes) + j : j + step;
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    if ((i & step) != 0) continue;
    const Vec upper = rows[i], lower = rows[i + step];
    rows[i] = __builtin_shuffle(upper, lower, upper_mask);
    rows[i + step] = __builtin_shuffle(upper, lower, lower_mask);
  }
}

static inline __attribute__((always_inline)) void transpose(Vec (&rows)[lanes]) {
  exchange_squares<1>(rows);
  exchange_squares<2>(rows);
  if constexpr (lanes > 4) exchange_squares<4>(rows);
  if constexpr (lanes > 8) exchange_squares<8>(rows);
}

// A strip of A: `rows` rows, `depth` elements of k, row r's element l being a[r * ld + l].
template <class Units, class T>
static void pack_strip(ByRows, const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t r = 0; r < min_of(rows, tile_rows); ++r) {
    for (int64_t l = 0; l < depth; l += lanes * Units::elements) {
      store(strip + r * ByRows::row + l / Units::elements, Units::along_k(a + r * ld + l, depth - l));
    }
  }
}

// The same, the element being a[l * ld + r]. Whole vectors are stored: what is beyond the tile's height, the
// next unit overwrites.
template <class Units, class T>
static void pack_strip(ByUnits, const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t l = 0; l < depth; l += Units::elements, strip += ByUnits::unit) {
#pragma GCC unroll 2
    for (int64_t r = 0; r < tile_rows; r += lanes) {
      const T* a_l = a + l * ld + r;
      const int64_t count = rows - r;
      if (count <= 0) break;
      store(strip + r, count >= lanes ? Units::across_k(a_l, ld, depth - l, AllLanes{})
                                      : Units::across_k(a_l, ld, depth - l, FirstLanes{count}));
    }
  }
}

// Both pack `width` columns of B, `depth` elements of k, into panels (units, tile_columns), one after the
// other; what the last panel has beyond `width` becomes zero.

// Element (l, j) is b[l * ld + j].
template <class Units, class T>
static void pack_panels(const T* b, int64_t ld, int64_t depth, int64_t width, float* panels) {
  const int64_t units = divide_up(depth, Units::elements);
  for (int64_t l = 0; l < depth; l += Units::elements) {
    const T* b_l = b + l * ld;
    for (int64_t j = 0; j < divide_up(width, tile_columns) * tile_columns; j += lanes) {
      float* to = panels + j / tile_columns * tile_columns * units + l / Units::elements * tile_columns +
                  j % tile_columns;
      const int64_t count = width - j;
      store(to, count >= lanes ? Units::across_k(b_l + j, ld, depth - l, AllLanes{})
                : count > 0    ? Units::across_k(b_l + j, ld, depth - l, FirstLanes{count})
                               : Vec{});
    }
  }
}
// Element (l, j) is b[j * ld + l].
template <class Units, class T>
static void pack_panels_transposed(const T* b, int64_t ld, int64_t depth, int64_t width, float* panels) {
  const int64_t units = divide_up(depth, Units::elements);
  for (int64_t j = 0; j < divide_up(width, tile_columns) * tile_columns; j += lanes) {
    float* panel = panels + j / tile_columns * tile_columns * units + j % tile_columns;
    for (int64_t u = 0; u < units; u += lanes) {
      const int64_t l = u * Units::elements;
      Vec block[lanes] = {};
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (j + i < width) block[i] = Units::along_k(b + (j + i) * ld + l, depth - l);
      }
      transpose(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (u + i < units) store(panel + (u + i) * tile_columns, block[i]);
      }
    }
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
