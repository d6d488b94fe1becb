#include "ops/elementwise.h"

#include "core/backend.h"

namespace dragoman {

Tensor add(const Tensor& a, const Tensor& b) {
  check_activations("add", "a", a);
  check_dtype("add", "b", b, a.dtype());
  check_shape("add", "b", b, a.shape());
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  kernels(a).add({.a = a.raw(), .b = b.raw(), .y = y.raw(), .size = a.numel(), .dtype = a.dtype()});
  return y;
}

Tensor scale(const Tensor& x, double factor) {
  check_activations("scale", "x", x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).scale({.x = x.raw(),
                    .y = y.raw(),
                    .size = x.numel(),
                    .dtype = x.dtype(),
                    .factor = static_cast<float>(factor)});
  return y;
}

void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate) {
  check_activations("accumulate", "x", x);
  check_dtype("accumulate", "y", y, x.dtype());
  check_shape("accumulate", "y", y, x.shape());
  check_writeable("accumulate", "y", y);
  kernels(x).accumulate({.x = x.raw(),
                         .y = y.raw(),
                         .size = x.numel(),
                         .dtype = x.dtype(),
                         .factor = static_cast<float>(factor),
                         .accumulate = accumulate});
}

Tensor cast(const Tensor& x, const std::string& dtype) {
  check_activations("cast", "x", x);
  const DType to = parse_activation_dtype("cast", dtype);
  Tensor y = Tensor::empty(x.shape(), to, x.device());
  kernels(x).cast({.x = x.raw(), .y = y.raw(), .size = x.numel(), .from = x.dtype(), .to = to});
  return y;
}

}  // namespace dragoman
