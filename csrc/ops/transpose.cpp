#include "ops/transpose.h"

#include <utility>

#include "core/backend.h"

namespace dragoman {

Tensor transpose(const Tensor& x) {
  check_activations("transpose", "x", x);
  CHECK(x.rank() >= 2, "transpose: x must have at least 2 dimensions, got shape ", x.shape());
  Shape shape = x.shape();
  std::swap(shape[0], shape[1]);
  const int64_t width = element_count(Shape(shape.begin() + 2, shape.end()));
  const Tensor y = Tensor::empty(std::move(shape), x.dtype(), x.device());
  kernels(x).transpose({.x = x.raw(),
                        .y = y.raw(),
                        .rows = x.dim(0),
                        .columns = x.dim(1),
                        .width = width,
                        .dtype = x.dtype()});
  return y;
}

}  // namespace dragoman
