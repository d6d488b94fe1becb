// The register tile of processors with AMX: up to 32 x 32 sums, in four of the eight tile registers (Intel,
// Software Developer's Manual, volume 1, chapter 18).
#pragma once

#include "cpu/gemm/panels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// The registers that a thread must hold while it multiplies units; none without AMX.
template <class Units>
struct Registers {
  Registers() {}
};

#ifdef __AMX_TILE__

// 16 rows of 64 bytes for each of the eight registers. A constant in memory, because the compiler does not
// see that the instruction reads all of it.
alignas(64) static const struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_shapes;

// During its lifetime the calling thread has tile registers. Its end releases them: other libraries set other
// shapes, and registers in use make every switch of threads slower.
class TileRegisters {
 public:
  TileRegisters() { _tile_loadconfig(&tile_shapes); }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

template <>
struct Registers<Pairs> : TileRegisters {};
template <>
struct Registers<Quads> : TileRegisters {};

#endif

// c (rows, columns) = a b, or c += a b, each 16 or 32.   a: (rows, depth)   b: (depth, columns)
// `depth` is in units and whole groups. A sum runs over it in order, so its bits do not depend on the tile's
// size. b is loaded past L1, so that a stays there for the next product. b comes from further away, so it is
// loaded first. Declared for every kind of units: code without groups names it in branches that it never
// takes.
template <class Units, int rows, int columns>
static void tile_kernel(int64_t depth, const float* a, int64_t a_row, const float* b, int64_t b_row, float* c,
                        int64_t c_row, bool add);

#ifdef __AMX_TILE__
template <class Units, int rows, int columns>
static void tile_kernel(int64_t depth, const float* a, int64_t a_row, const float* b, int64_t b_row, float* c,
                        int64_t c_row, bool add) {
  constexpr bool low = rows > 16, right = columns > 16;
  __asm__ volatile("" ::: "memory");  // the compiler does not know that tiles read what was written before
  if (add) {
    _tile_loadd(0, c, c_row * 4);
    if constexpr (right) _tile_loadd(1, c + 16, c_row * 4);
    if constexpr (low) _tile_loadd(2, c + 16 * c_row, c_row * 4);
    if constexpr (low && right) _tile_loadd(3, c + 16 * c_row + 16, c_row * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t l = 0; l < depth; l += Units::group, a += Units::group, b += Units::group * b_row) {
    _tile_stream_loadd(6, b, b_row * 4);
    if constexpr (right) _tile_stream_loadd(7, b + 16, b_row * 4);
    _tile_loadd(4, a, a_row * 4);
    if constexpr (low) _tile_loadd(5, a + 16 * a_row, a_row * 4);
    if constexpr (Units::elements == 2) {
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (right) _tile_dpbf16ps(1, 4, 7);
      if constexpr (low) _tile_dpbf16ps(2, 5, 6);
      if constexpr (low && right) _tile_dpbf16ps(3, 5, 7);
    } else {
      _tile_dpbusd(0, 4, 6);
      if constexpr (right) _tile_dpbusd(1, 4, 7);
      if constexpr (low) _tile_dpbusd(2, 5, 6);
      if constexpr (low && right) _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, c, c_row * 4);
  if constexpr (right) _tile_stored(1, c + 16, c_row * 4);
  if constexpr (low) _tile_stored(2, c + 16 * c_row, c_row * 4);
  if constexpr (low && right) _tile_stored(3, c + 16 * c_row + 16, c_row * 4);
}

#endif

}  // namespace dragoman::cpu::DRAGOMAN_ISA
