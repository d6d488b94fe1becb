#include "ops/softmax.h"

#include "core/backend.h"

namespace dragoman {

namespace {

int64_t rows_of(const Tensor& x) {
  return element_count(Shape(x.shape().begin(), x.shape().end() - 1));
}

}  // namespace

Tensor softmax_forward(const Tensor& x) {
  check_activations("softmax", "x", x);
  CHECK(x.rank() > 0, "softmax: x must have at least 1 dimension, got shape ()");
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).softmax_forward(
      {.x = x.raw(), .y = y.raw(), .rows = rows_of(x), .features = x.dim(-1), .dtype = x.dtype()});
  return y;
}

Tensor softmax_backward(const Tensor& dy, const Tensor& y) {
  check_activations("softmax_backward", "y", y);
  CHECK(y.rank() > 0, "softmax_backward: y must have at least 1 dimension, got shape ()");
  check_dtype("softmax_backward", "dy", dy, y.dtype());
  check_shape("softmax_backward", "dy", dy, y.shape());
  const Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
  kernels(y).softmax_backward({.dy = dy.raw(),
                               .y = y.raw(),
                               .dx = dx.raw(),
                               .rows = rows_of(y),
                               .features = y.dim(-1),
                               .dtype = y.dtype()});
  return dx;
}

}  // namespace dragoman
