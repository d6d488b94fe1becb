// reduce: sums and means over the first axis, the last axis or all elements.
#pragma once

#include <optional>
#include <string>

#include "core/tensor.h"

namespace dragoman {

enum class ReduceOver { rows, features, all };

struct Reduce {
  const void* x;  // (rows, features)
  void* y;        // over rows (features,), over features (rows,), over all (1,)
  int64_t rows, features;
  DType dtype;    // of x
  DType y_dtype;  // sums are float32, rounded once
  ReduceOver over;
  float factor;  // of the sums
};

// kind "sum" or "mean"; axis 0, -1, or absent for all. y keeps the axis with size 1 if keepdims.
Tensor reduce_forward(const std::string& kind, const Tensor& x, std::optional<int64_t> axis, bool keepdims);
// dx of `shape`: each element gets the gradient of its sum.
Tensor reduce_backward(const std::string& kind, const Tensor& dy, const Shape& shape,
                       std::optional<int64_t> axis);

// The sums of x over what was repeated to make x of `shape`: one element, (features,), (1, features) or
// (tokens, 1).
Tensor sum_to(const Tensor& x, const Shape& shape, DType dtype);

}  // namespace dragoman
