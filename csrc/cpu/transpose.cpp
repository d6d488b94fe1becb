#include "ops/transpose.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Calls copy(place in y, place in x) for every (row, column). In tiles, so that each cache line of x serves
// all its columns.
template <class Copy>
static inline void each_place(const Transpose& p, const Copy& copy) {
  constexpr int64_t tile = 32;
  const int64_t across = (p.columns + tile - 1) / tile, down = (p.rows + tile - 1) / tile;
  parallel_for(across * down, row_grain(tile * tile * p.width), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t first_row = at / across * tile, last_row = min_of(p.rows, first_row + tile);
      const int64_t first_column = at % across * tile, last_column = min_of(p.columns, first_column + tile);
      for (int64_t column = first_column; column < last_column; ++column) {
        for (int64_t row = first_row; row < last_row; ++row) {
          copy(column * p.rows + row, row * p.columns + column);
        }
      }
    }
  });
}

void transpose(const Transpose& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(p.x);
    T* y = static_cast<T*>(p.y);
    if (p.width == 1) return each_place(p, [&](int64_t to, int64_t from) { y[to] = x[from]; });
    const size_t bytes = static_cast<size_t>(p.width) * sizeof(T);
    each_place(
        p, [&](int64_t to, int64_t from) { __builtin_memcpy(y + to * p.width, x + from * p.width, bytes); });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
