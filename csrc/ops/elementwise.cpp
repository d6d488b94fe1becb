#include "ops/elementwise.h"

#include "core/dispatch.h"

namespace dragoman {

Tensor add(const Tensor& a, const Tensor& b) {
  check_dtype("add", "a", a, DType::float32);
  check_dtype("add", "b", b, DType::float32);
  check_shape("add", "b", b, a.shape());
  Tensor y = Tensor::empty(a.shape(), DType::float32, a.device());
  kernels(a).add({.a = a.data<float>(), .b = b.data<float>(), .y = y.data<float>(), .size = a.numel()});
  return y;
}

Tensor scale(const Tensor& x, double factor) {
  check_dtype("scale", "x", x, DType::float32);
  Tensor y = Tensor::empty(x.shape(), DType::float32, x.device());
  kernels(x).scale(
      {.x = x.data<float>(), .y = y.data<float>(), .size = x.numel(), .factor = static_cast<float>(factor)});
  return y;
}

void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate) {
  check_dtype("accumulate", "x", x, DType::float32);
  check_output("accumulate", "y", y, x.shape());
  kernels(x).accumulate({.x = x.data<float>(),
                         .y = y.data<float>(),
                         .size = x.numel(),
                         .factor = static_cast<float>(factor),
                         .accumulate = accumulate});
}

}  // namespace dragoman
