#include "ops/activation.h"

#include "core/backend.h"

namespace dragoman {

Activation parse_activation(const char* op, const std::string& text) {
  if (text == "none") return Activation::none;
  if (text == "relu") return Activation::relu;
  if (text == "gelu") return Activation::gelu;
  throw ValueError(concat(op, ": activation must be \"none\", \"relu\" or \"gelu\", got \"", text, "\""));
}

Tensor activation_forward(const Tensor& x, const std::string& activation,
                          const std::optional<Sequences>& sequences) {
  const Activation kind = parse_activation("activation", activation);
  check_activations(activation.c_str(), "x", x);
  check_rank(activation.c_str(), "x", x, 2);
  const Rows rows = rows_of(activation.c_str(), sequences, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).activation_forward({.x = x.raw(),
                                 .y = y.raw(),
                                 .rows = rows,
                                 .features = x.dim(1),
                                 .dtype = x.dtype(),
                                 .activation = kind});
  return y;
}

Tensor activation_backward(const Tensor& dy, const Tensor& x, const std::string& activation,
                           const std::optional<Sequences>& sequences) {
  const Activation kind = parse_activation("activation_backward", activation);
  check_activations("activation_backward", "x", x);
  check_rank("activation_backward", "x", x, 2);
  check_dtype("activation_backward", "dy", dy, x.dtype());
  check_shape("activation_backward", "dy", dy, x.shape());
  const Rows rows = rows_of("activation_backward", sequences, x);
  Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).activation_backward({.dy = dy.raw(),
                                  .x = x.raw(),
                                  .dx = dx.raw(),
                                  .rows = rows,
                                  .features = x.dim(1),
                                  .dtype = x.dtype(),
                                  .activation = kind});
  return dx;
}

}  // namespace dragoman
