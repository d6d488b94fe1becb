// The left matrix of a product: strips of it, copied as units.
#pragma once

#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

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

}  // namespace dragoman::cpu::DRAGOMAN_ISA
