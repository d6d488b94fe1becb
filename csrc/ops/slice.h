// slice and concat: parts of a tensor along its rows (axis 0) or columns (axis 1), and their joining. Each is
// the other's gradient.
#pragma once

#include <optional>

#include "core/tensor.h"

namespace dragoman {

struct CopyRows {
  const void* x;  // (rows, row_bytes), x_stride bytes apart
  void* y;        // (rows, row_bytes), y_stride bytes apart
  int64_t rows, row_bytes, x_stride, y_stride;
};

// Elements [begin, end) of an axis. Along axis 0 they share the memory of x.
Tensor slice_forward(const Tensor& x, int64_t axis, int64_t begin, int64_t end);
// dx of `shape`: dy from `begin` on along the axis, zeros elsewhere.
Tensor slice_backward(const Tensor& dy, const Shape& shape, int64_t axis, int64_t begin);

// Two to four tensors in a row along the axis, which alone may differ in size.
Tensor concat_forward(const Tensor& a, const Tensor& b, const std::optional<Tensor>& c,
                      const std::optional<Tensor>& d, int64_t axis);

}  // namespace dragoman
