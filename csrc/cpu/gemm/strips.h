// The left matrix of a product: strips of it, copied as units.
#pragma once

#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// A strip ByRows: `rows` rows, `depth` elements of k, row r's element l being a[r * ld + l].
template <class Units, class T>
static void pack_rows(const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t r = 0; r < min_of(rows, tile_rows<Units>); ++r) {
    for (int64_t l = 0; l < depth; l += lanes * Units::elements) {
      store(strip + r * ByRows<Units>::row + l / Units::elements, Units::along_k(a + r * ld + l, depth - l));
    }
  }
}

// ByUnits, the element being a[l * ld + r]. Whole vectors are stored: what is beyond the tile's height, the
// next unit overwrites.
template <class Units, class T>
static void pack_units_transposed(const T* a, int64_t ld, int64_t depth, int64_t rows, float* strip) {
  for (int64_t l = 0; l < depth; l += Units::elements, strip += ByUnits::unit) {
#pragma GCC unroll 2
    for (int64_t r = 0; r < tile_rows<Units>; r += lanes) {
      const T* a_l = a + l * ld + r;
      const int64_t count = rows - r;
      if (count <= 0) break;
      store(strip + r, count >= lanes ? Units::across_k(a_l, ld, depth - l, AllLanes{})
                                      : Units::across_k(a_l, ld, depth - l, FirstLanes{count}));
    }
  }
}

// A strip of op(A). ByUnits serves a transposed A where ByRows would cost a transpose.
template <class Units, class Strip, class T>
static void pack_strip(const T* a, int64_t ld, bool transposed, int64_t depth, int64_t rows, float* strip) {
  if constexpr (Strip::row == 1) {
    pack_units_transposed<Units>(a, ld, depth, rows, strip);
  } else if constexpr (sizeof(T) > 1 && Units::group > 1) {
    if (!transposed) return pack_rows<Units>(a, ld, depth, rows, strip);
    pack_columns<Units>(
        depth, min_of(rows, tile_rows<Units>), [&](int64_t l) { return a + l * ld; }, strip,
        ByRows<Units>::row);
  } else {
    pack_rows<Units>(a, ld, depth, rows, strip);
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
