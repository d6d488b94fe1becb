#include "ops/gather.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void gather_forward(const GatherForward& p) {
  parallel_for(p.num_ids, row_grain(p.row_bytes), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      __builtin_memcpy(static_cast<char*>(p.y) + i * p.row_bytes,
                       static_cast<const char*>(p.x) + p.ids[i] * p.row_bytes,
                       static_cast<size_t>(p.row_bytes));
    }
  });
}

// A task owns columns, so the rows of one id are added in order whatever the number of threads.
void gather_backward(const GatherBackward& p) {
  constexpr int64_t slice_columns = 128;
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(p.features, slice_columns, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < p.rows; ++row) zero(p.dx + row * p.features + begin, end - begin);
      for (int64_t i = 0; i < p.num_ids; ++i) {
        const T* dy_row = static_cast<const T*>(p.dy) + i * p.features + begin;
        float* dx_row = p.dx + p.ids[i] * p.features + begin;
        each_vector(end - begin, [&](int64_t j, auto part) {
          store(dx_row + j, load(dx_row + j, part) + load(dy_row + j, part), part);
        });
      }
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
