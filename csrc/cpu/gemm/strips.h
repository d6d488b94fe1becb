// The left matrix of a product, in strips of tile_rows rows: packed as units, or read in place.
#pragma once

#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Strips packed per call: in a transposed A, four neighbours share each cache line.
constexpr int64_t strips_per_call = 4;
template <class Units>
constexpr int64_t strip_size = tile_rows<Units> * ByRows<Units>::row;

// Packs a strip ByRows from `rows` rows of `depth` elements: element l of row r is a[r * ld + l].
template <class Units, class T>
static void pack_rows(const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t r = 0; r < min_of(rows, tile_rows<Units>); ++r) {
    for (int64_t l = 0; l < depth; l += lanes * Units::elements) {
      store(strip + r * ByRows<Units>::row + l / Units::elements, Units::along_k(a + r * ld + l, depth - l));
    }
  }
}

// Packs strips ByUnits from a transposed A: element l of row r is a[l * ld + r]. Stores whole vectors; the
// next unit overwrites what lies beyond the tile's height.
template <class Units, class T>
static void pack_units_transposed(const T* a, int64_t ld, int64_t depth, int64_t rows, float* strips) {
  for (int64_t l = 0; l < depth; l += Units::elements, strips += ByUnits::unit) {
    float* strip = strips;
    for (int64_t first = 0; first < rows; first += tile_rows<Units>, strip += strip_size<Units>) {
#pragma GCC unroll 2
      for (int64_t r = 0; r < tile_rows<Units>; r += lanes) {
        const T* from = a + l * ld + first + r;
        const int64_t count = rows - first - r;
        if (count <= 0) break;
        store(strip + r, count >= lanes ? Units::across_k(from, ld, depth - l, AllLanes{})
                                        : Units::across_k(from, ld, depth - l, FirstLanes{count}));
      }
    }
  }
}

// Packs a strip of op(A), or strips_per_call strips of a transposed A. ByUnits is for a transposed A: there
// ByRows would need a transpose.
template <class Units, class Strip, class T>
static void pack_strips(const T* a, int64_t ld, bool transposed, int64_t depth, int64_t rows, float* strips) {
  const int64_t rows_at_once = min_of(rows, strips_per_call * tile_rows<Units>);
  if constexpr (Strip::row == 1) {
    pack_units_transposed<Units>(a, ld, depth, rows_at_once, strips);
  } else if constexpr (Units::group > 1) {
    if (!transposed) return pack_rows<Units>(a, ld, depth, rows, strips);
    pack_columns<Units>(
        depth, rows_at_once, [&](int64_t l) { return a + l * ld; }, strips, ByRows<Units>::row);
  } else {
    pack_rows<Units>(a, ld, depth, rows, strips);
  }
}

// Whether tile registers read a row-major A in place as fast as a packed strip: whole tiles, rows of whole
// cache lines, and rows that fall in different cache sets.
template <class Units, class T>
static bool fast_in_place(const T* a, int64_t ld, int64_t depth, int64_t rows) {
  constexpr int64_t line = 64, set_period = 32 * line;
  const int64_t row_bytes = ld * static_cast<int64_t>(sizeof(T));
  return Units::group > 1 && rows >= tile_rows<Units> && depth % group_elements<Units> == 0 &&
         reinterpret_cast<uintptr_t>(a) % line == 0 && row_bytes % line == 0 && row_bytes % set_period != 0;
}

// What a tile reads of A. ByRows: unit u of row r is strip[r * row + u].
struct StripView {
  const float* strip;
  int64_t row;
};

// The strip at a, number `index` of its task: packed into `buffer` (strips_per_call, strip_size), or in
// place.
template <class Units, class Strip, class T>
static StripView strip_at(const T* a, int64_t ld, bool transposed, int64_t depth, int64_t rows, int64_t index,
                          float* buffer) {
  if (!transposed && fast_in_place<Units>(a, ld, depth, rows)) {
    return {reinterpret_cast<const float*>(a), ld / Units::elements};
  }
  const int64_t place = transposed ? index % strips_per_call : 0;
  if (place == 0) pack_strips<Units, Strip>(a, ld, transposed, depth, rows, buffer);
  return {buffer + place * strip_size<Units>, ByRows<Units>::row};
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
