// The left matrix of a product: strips of it, copied as units, or where they lie.
#pragma once

#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// So many strips are packed together: across a transposed A, they have lines of memory in common.
constexpr int64_t strips_at_once = 4;
template <class Units>
constexpr int64_t strip_size = tile_rows<Units> * ByRows<Units>::row;

// A strip ByRows: `rows` rows, `depth` elements of k, row r's element l being a[r * ld + l].
template <class Units, class T>
static void pack_rows(const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t r = 0; r < min_of(rows, tile_rows<Units>); ++r) {
    for (int64_t l = 0; l < depth; l += lanes * Units::elements) {
      store(strip + r * ByRows<Units>::row + l / Units::elements, Units::along_k(a + r * ld + l, depth - l));
    }
  }
}

// Strips ByUnits, the element being a[l * ld + r]. Whole vectors are stored: what is beyond the tile's
// height, the next unit overwrites.
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

// A strip of op(A), or of a transposed one strips_at_once. ByUnits serves a transposed A where ByRows would
// cost a transpose.
template <class Units, class Strip, class T>
static void pack_strips(const T* a, int64_t ld, bool transposed, int64_t depth, int64_t rows, float* strips) {
  const int64_t rows_at_once = min_of(rows, strips_at_once * tile_rows<Units>);
  if constexpr (Strip::row == 1) {
    pack_units_transposed<Units>(a, ld, depth, rows_at_once, strips);
  } else if constexpr (sizeof(T) > 1 && Units::group > 1) {
    if (!transposed) return pack_rows<Units>(a, ld, depth, rows, strips);
    pack_columns<Units>(
        depth, rows_at_once, [&](int64_t l) { return a + l * ld; }, strips, ByRows<Units>::row);
  } else {
    pack_rows<Units>(a, ld, depth, rows, strips);
  }
}

// Whether tile registers read as fast from a row-major A as from a strip: whole tiles, of whole lines of
// memory, whose rows do not share the cache's sets.
template <class Units, class T>
static bool lies_well(const T* a, int64_t ld, int64_t depth, int64_t rows) {
  constexpr int64_t line = 64, set_period = 32 * line;
  const int64_t row_bytes = ld * static_cast<int64_t>(sizeof(T));
  return Units::group > 1 && rows >= tile_rows<Units> && depth % group_elements<Units> == 0 &&
         reinterpret_cast<uintptr_t>(a) % line == 0 && row_bytes % line == 0 && row_bytes % set_period != 0;
}

// What a tile reads of A: row r's unit u is strip[r * row + u], or as Strip says.
struct Left {
  const float* strip;
  int64_t row;
};

// The strip at a, the `index`-th of its task, in `room` (strips_at_once, strip_size) or where it lies.
template <class Units, class Strip, class T>
static Left strip_at(const T* a, int64_t ld, bool transposed, int64_t depth, int64_t rows, int64_t index,
                     float* room) {
  if (!transposed && lies_well<Units>(a, ld, depth, rows)) {
    return {reinterpret_cast<const float*>(a), ld / Units::elements};
  }
  const int64_t place = transposed ? index % strips_at_once : 0;
  if (place == 0) pack_strips<Units, Strip>(a, ld, transposed, depth, rows, room);
  return {room + place * strip_size<Units>, ByRows<Units>::row};
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
