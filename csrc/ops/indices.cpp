#include "ops/indices.h"

namespace dragoman {

Tensor checked_indices(const char* op, const char* argument, const Tensor& indices, int64_t count,
                       int64_t minimum, int64_t end) {
  const Tensor checked = Tensor::empty({count}, DType::int32);
  const int32_t* from = indices.data<int32_t>();
  int32_t* to = checked.data<int32_t>();
  for (int64_t i = 0; i < count; ++i) {
    const int32_t index = __atomic_load_n(from + i, __ATOMIC_RELAXED);  // read once
    CHECK(index >= minimum && index < end, op, ": ", argument, " must lie in [", minimum, ", ", end,
          "), got ", index, " at position ", i);
    to[i] = index;
  }
  return checked;
}

}  // namespace dragoman
