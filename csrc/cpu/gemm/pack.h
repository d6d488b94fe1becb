// Copies of A and B in the order in which the register tile reads them.
#pragma once

#include "cpu/simd.h"

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

// to[l * to_ld + i] = from[i * ld + l] for a lanes x lanes block.
template <class T>
static inline __attribute__((always_inline)) void transpose(const T* from, int64_t ld, float* to,
                                                            int64_t to_ld) {
  Vec rows[lanes];
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) rows[i] = load(from + i * ld);
  exchange_squares<1>(rows);
  exchange_squares<2>(rows);
  if constexpr (lanes > 4) exchange_squares<4>(rows);
  if constexpr (lanes > 8) exchange_squares<8>(rows);
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) store(to + i * to_ld, rows[i]);
}

// The same where only `rows` x `columns` of `from` exist: as if the other rows were zero; writes `columns`
// rows of `to`.
template <class T>
static void transpose_edge(const T* from, int64_t ld, int64_t rows, int64_t columns, float* to,
                           int64_t to_ld) {
  alignas(64) float block[lanes * lanes] = {}, transposed[lanes * lanes];
  for (int64_t i = 0; i < rows; ++i) {
    store(block + i * lanes,
          columns < lanes ? load(from + i * ld, FirstLanes{columns}) : load(from + i * ld));
  }
  transpose(block, lanes, transposed, lanes);
  for (int64_t l = 0; l < columns; ++l) store(to + l * to_ld, load(transposed + l * lanes));
}

// Both pack a (depth, width) block into panels (depth, panel_width) of panel_width columns each, one after
// the other, as float32; what the last panel has beyond `width` becomes zero.

// The block's element (l, j) is source[l * ld + j].
template <int64_t panel_width, class T>
static void pack_rows(const T* source, int64_t ld, int64_t depth, int64_t width, float* panels) {
  for (int64_t l = 0; l < depth; ++l) {
    const T* source_l = source + l * ld;
    for (int64_t panel = 0; panel < width; panel += panel_width) {
      float* panel_l = panels + panel * depth + l * panel_width;
#pragma GCC unroll 4
      for (int64_t v = 0; v < panel_width; v += lanes) {
        const int64_t count = width - (panel + v);
        store(panel_l + v, count >= lanes ? load(source_l + panel + v)
                           : count > 0    ? load(source_l + panel + v, FirstLanes{count})
                                          : Vec{});
      }
    }
  }
}

// The block's element (l, j) is source[j * ld + l].
template <int64_t panel_width, class T>
static void pack_columns(const T* source, int64_t ld, int64_t depth, int64_t width, float* panels) {
  for (int64_t j = 0; j < divide_up(width, panel_width) * panel_width; j += lanes) {
    const T* source_j = source + j * ld;
    float* panel = panels + j / panel_width * panel_width * depth + j % panel_width;
    const int64_t rows = max_of(0, min_of(lanes, width - j));
    for (int64_t l = 0; l < depth; l += lanes) {
      const int64_t columns = min_of(lanes, depth - l);
      if (rows == lanes && columns == lanes) {
        transpose(source_j + l, ld, panel + l * panel_width, panel_width);
      } else {
        transpose_edge(source_j + l, ld, rows, columns, panel + l * panel_width, panel_width);
      }
    }
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
