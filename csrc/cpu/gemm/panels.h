// Packs the right matrix of a product: copies it, as units, into the order in which a register tile reads it.
#pragma once

#include "cpu/gemm/units.h"
#include "cpu/isa/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// A register tile is two vectors wide. A panel (units of k, tile_columns) has the same width.
constexpr int tile_vectors = 2;
constexpr int64_t tile_columns = tile_vectors * lanes;

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

// pack_panels and pack_panels_transposed pack a matrix of `depth` elements of k and `width` columns into
// panels that begin `stride` floats apart. Columns beyond `width` and units beyond `depth` become zero.

// For a matrix (k, columns): row(l) is the row of element l of k.
template <class Units, class RowOf>
static void pack_panels(int64_t depth, int64_t width, const RowOf& row, float* panels, int64_t stride) {
  const int64_t units = divide_up(depth, Units::elements), beyond = units_of<Units>(depth) - units;
  for (int64_t j = 0; j < width && beyond > 0; j += tile_columns) {
    zero(panels + j / tile_columns * stride + units * tile_columns, beyond * tile_columns);
  }
  for (int64_t l = 0; l < depth; l += Units::elements, panels += tile_columns) {
    const auto* first = row(l);
    const int64_t rows = min_of(Units::elements, depth - l);
    const int64_t ld = rows > 1 ? row(l + 1) - first : 0;
    for (int64_t j = 0; j < round_up(width, tile_columns); j += lanes) {
      const int64_t count = width - j;
      store(panels + j / tile_columns * stride + j % tile_columns,
            count >= lanes ? Units::across_k(first + j, ld, rows, AllLanes{})
            : count > 0    ? Units::across_k(first + j, ld, rows, FirstLanes{count})
                           : Vec{});
    }
  }
}

// For a matrix (columns, k): row(j) is the row of column j.
template <class Units, class RowOf>
static void pack_panels_transposed(int64_t depth, int64_t width, const RowOf& row, float* panels,
                                   int64_t stride) {
  const int64_t units = units_of<Units>(depth);
  for (int64_t j = 0; j < round_up(width, tile_columns); j += lanes) {
    float* panel = panels + j / tile_columns * stride + j % tile_columns;
    for (int64_t u = 0; u < units; u += lanes) {
      const int64_t l = u * Units::elements;
      Vec block[lanes] = {};
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (j + i < width) block[i] = Units::along_k(row(j + i) + l, depth - l);
        if (j + i + lanes < width) __builtin_prefetch(row(j + i + lanes) + l);
      }
      transpose(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (u + i < units) store(panel + (u + i) * tile_columns, block[i]);
      }
    }
  }
}

// Transposes a matrix (k, columns) into rows of units: unit u of column j goes to to[j * stride + u].
// Writes whole vectors, so `to` needs room for `width` and the units rounded up to `lanes`.
template <class Units, class RowOf>
static void pack_columns(int64_t depth, int64_t width, const RowOf& row, float* to, int64_t stride) {
  for (int64_t u = 0; u < units_of<Units>(depth); u += lanes) {
    for (int64_t j = 0; j < width; j += lanes) {
      const int64_t count = width - j;
      Vec block[lanes] = {};
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        const int64_t l = (u + i) * Units::elements;
        if (l >= depth) continue;
        const auto* first = row(l);
        const int64_t ld = depth - l > 1 ? row(l + 1) - first : 0;
        block[i] = count >= lanes ? Units::across_k(first + j, ld, depth - l, AllLanes{})
                                  : Units::across_k(first + j, ld, depth - l, FirstLanes{count});
      }
      transpose(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) store(to + (j + i) * stride + u, block[i]);
    }
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
