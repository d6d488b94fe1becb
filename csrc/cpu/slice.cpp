#include "ops/slice.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Tasks are ranges of the copied bytes, cut into rows.
void copy_rows(const CopyRows& p) {
  parallel_for(p.rows * p.row_bytes, 4 * element_grain, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end;) {
      const int64_t row = first / p.row_bytes, column = first - row * p.row_bytes;
      const int64_t count = min_of(p.row_bytes - column, end - first);
      __builtin_memcpy(static_cast<char*>(p.y) + row * p.y_stride + column,
                       static_cast<const char*>(p.x) + row * p.x_stride + column, static_cast<size_t>(count));
      first += count;
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
