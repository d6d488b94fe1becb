// The register tile of processors with AMX: 32 x 32 sums over one block of k, in four of the eight tile
// registers (Intel, Software Developer's Manual, volume 1, chapter 18).
#pragma once

#include "cpu/gemm/panels.h"

#ifdef __AMX_TILE__

namespace dragoman::cpu::DRAGOMAN_ISA {

// 16 rows of 64 bytes for each of the eight. Constant: the compiler does not see how much of it is read.
alignas(64) static const struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_shapes;

// While one stands, the calling thread has tile registers. They go when it goes: code outside of dragoman has
// shapes of its own, and registers in use cost every switch of threads time.
class TileRegisters {
 public:
  TileRegisters() { _tile_loadconfig(&tile_shapes); }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// tile (rows, tile_columns) = a b, for 16 or 32 rows.   a: (rows, a_row)   b: (depth, tile_columns)
// The depth is in units, whole groups. A sum's bits do not depend on the height.
template <class Units, int rows>
static void tile_kernel(int64_t depth, const float* a, int64_t a_row, const float* b, float* tile) {
  constexpr int64_t row_bytes = tile_columns * 4;
  __asm__ volatile("" ::: "memory");  // the compiler does not know that tiles read what was written before
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t l = 0; l < depth; l += Units::group, a += Units::group, b += Units::group * tile_columns) {
    _tile_loadd(4, a, a_row * 4);
    if constexpr (rows > 16) _tile_loadd(5, a + 16 * a_row, a_row * 4);
    _tile_loadd(6, b, row_bytes);
    _tile_loadd(7, b + 16, row_bytes);
    if constexpr (Units::elements == 2) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (rows > 16) _tile_dpbf16ps(2, 5, 6);
      if constexpr (rows > 16) _tile_dpbf16ps(3, 5, 7);
    } else {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      if constexpr (rows > 16) _tile_dpbusd(2, 5, 6);
      if constexpr (rows > 16) _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, tile, row_bytes);
  _tile_stored(1, tile + 16, row_bytes);
  if constexpr (rows > 16) _tile_stored(2, tile + 16 * tile_columns, row_bytes);
  if constexpr (rows > 16) _tile_stored(3, tile + 16 * tile_columns + 16, row_bytes);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA

#endif
