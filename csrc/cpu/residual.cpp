#include "ops/residual.h"

#include "cpu/dropout_mask.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void residual_forward(const ResidualForward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(p.x);
    const T* residual = static_cast<const T*>(p.residual);
    T* y = static_cast<T*>(p.y);
    parallel_elements(p.rows, p.features, y, [&](int64_t begin, int64_t end) {
      each_masked_vector(p.dropout, begin, end, [&](int64_t i, Vec factor, auto part) {
        store(y + i, load(residual + i, part) + load(x + i, part) * factor, part);
      });
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
