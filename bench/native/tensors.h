// Random tensors, and their elements in float64, to make work for ops and to check it.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

namespace dragoman::bench {

// float32 and bfloat16: uniform in [-1, 1); int8: any byte.
Tensor random_tensor(const Shape& shape, DType dtype = DType::float32);
Tensor random_ids(int64_t count, int64_t below);  // int32 in [0, below)
double value(const Tensor& tensor, int64_t element);
double factor_of(const Dropout& dropout, int64_t element);  // 0 or the scale

}  // namespace dragoman::bench
