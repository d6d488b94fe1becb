#include "ops/slice.h"

#include "core/backend.h"

namespace dragoman {

namespace {

void check_axis(const char* op, const Shape& shape, int64_t axis) {
  CHECK(axis == 0 || axis == 1, op, ": axis must be 0 or 1, got ", axis);
  CHECK(static_cast<int64_t>(shape.size()) > axis, op, ": x must have more than ", axis,
        " dimensions, got shape ", shape);
}

// The bytes of all elements with one index of the axes before `axis`.
int64_t row_bytes(const Tensor& x, int64_t axis) {
  int64_t bytes = item_size(x.dtype());
  for (int64_t i = axis; i < x.rank(); ++i) bytes *= x.shape()[static_cast<size_t>(i)];
  return bytes;
}

void copy(const Tensor& x, int64_t x_offset, int64_t x_stride, const Tensor& y, int64_t y_offset,
          int64_t y_stride, int64_t rows, int64_t bytes) {
  kernels(x).copy_rows({.x = static_cast<const char*>(x.raw()) + x_offset,
                        .y = static_cast<char*>(y.raw()) + y_offset,
                        .rows = rows,
                        .row_bytes = bytes,
                        .x_stride = x_stride,
                        .y_stride = y_stride});
}

}  // namespace

Tensor slice_forward(const Tensor& x, int64_t axis, int64_t begin, int64_t end) {
  check_activations("slice", "x", x);
  check_axis("slice", x.shape(), axis);
  const int64_t size = x.dim(static_cast<int>(axis));
  CHECK(begin >= 0 && begin <= end && end <= size, "slice: [", begin, ", ", end, ") must lie in [0, ", size,
        ") of axis ", axis);
  if (axis == 0) return x.narrow(begin, end - begin);
  Shape shape = x.shape();
  shape[1] = end - begin;
  const Tensor y = Tensor::empty(std::move(shape), x.dtype(), x.device());
  const int64_t bytes = row_bytes(x, 1), item = size == 0 ? 0 : bytes / size;
  copy(x, begin * item, bytes, y, 0, row_bytes(y, 1), x.dim(0), row_bytes(y, 1));
  return y;
}

Tensor slice_backward(const Tensor& dy, const Shape& shape, int64_t axis, int64_t begin) {
  check_activations("slice_backward", "dy", dy);
  check_axis("slice_backward", shape, axis);
  Shape expected = shape;
  const size_t along = static_cast<size_t>(axis);
  expected[along] = dy.rank() > axis ? dy.shape()[along] : 0;
  check_shape("slice_backward", "dy", dy, expected);
  CHECK(begin >= 0 && begin + expected[along] <= shape[along], "slice_backward: begin must lie in shape ",
        shape, ", got ", begin);
  const Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
  const int64_t bytes = row_bytes(dx, axis), item = shape[along] == 0 ? 0 : bytes / shape[along];
  copy(dy, 0, row_bytes(dy, axis), dx, begin * item, bytes, axis == 0 ? 1 : shape[0], row_bytes(dy, axis));
  return dx;
}

Tensor concat_forward(const Tensor& a, const Tensor& b, const std::optional<Tensor>& c,
                      const std::optional<Tensor>& d, int64_t axis) {
  std::vector<Tensor> parts{a, b};
  if (c) parts.push_back(*c);
  if (d) parts.push_back(*d);
  check_activations("concat", "tensors", a);
  check_axis("concat", a.shape(), axis);
  const size_t along = static_cast<size_t>(axis);
  Shape shape = a.shape();
  shape[along] = 0;
  for (const Tensor& part : parts) {
    check_dtype("concat", "tensors", part, a.dtype());
    Shape expected = a.shape();
    expected[along] = part.rank() == a.rank() ? part.shape()[along] : -1;
    CHECK(part.shape() == expected, "concat: tensors must have equal shapes but for axis ", axis, ", got ",
          a.shape(), " and ", part.shape());
    shape[along] += part.shape()[along];
  }
  const Tensor y = Tensor::empty(shape, a.dtype(), a.device());
  int64_t offset = 0;
  for (const Tensor& part : parts) {
    const int64_t bytes = row_bytes(part, axis);
    copy(part, 0, bytes, y, offset, row_bytes(y, axis), axis == 0 ? 1 : shape[0], bytes);
    offset += bytes;
  }
  return y;
}

}  // namespace dragoman
