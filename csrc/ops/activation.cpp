#include "ops/activation.h"

#include <iterator>

#include "core/backend.h"
#include "ops/dropout.h"

namespace dragoman {

Activation parse_activation(const char* op, const std::string& text) {
  constexpr const char* names[] = {"none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"};
  for (int32_t i = 0; i < static_cast<int32_t>(std::size(names)); ++i) {
    if (text == names[i]) return static_cast<Activation>(i);
  }
  throw ValueError(
      concat(op, ": activation must be one of none, relu, gelu, gelu_tanh, silu, tanh, sigmoid, got \"", text,
             "\""));
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

namespace {

// a and b (rows, features), of one dtype of activations.
Rows check_gate(const char* op, const Tensor& a, const Tensor& b, const Dropout& dropout,
                const std::optional<Sequences>& sequences) {
  check_activations(op, "a", a);
  check_rank(op, "a", a, 2);
  check_dtype(op, "b", b, a.dtype());
  check_shape(op, "b", b, a.shape());
  check_mask_size(op, dropout, a.dim(0), a.dim(1));
  return rows_of(op, sequences, a);
}

}  // namespace

Tensor gate_forward(const Tensor& a, const Tensor& b, const std::string& activation, const Dropout& dropout,
                    const std::optional<Sequences>& sequences) {
  const Activation kind = parse_activation("gate", activation);
  const Rows rows = check_gate("gate", a, b, dropout, sequences);
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  kernels(a).gate_forward({.a = a.raw(),
                           .b = b.raw(),
                           .y = y.raw(),
                           .rows = rows,
                           .features = a.dim(1),
                           .dtype = a.dtype(),
                           .activation = kind,
                           .dropout = dropout});
  return y;
}

std::tuple<Tensor, Tensor> gate_backward(const Tensor& dy, const Tensor& a, const Tensor& b,
                                         const std::string& activation, const Dropout& dropout,
                                         const std::optional<Sequences>& sequences) {
  constexpr const char* op = "gate_backward";
  const Activation kind = parse_activation(op, activation);
  const Rows rows = check_gate(op, a, b, dropout, sequences);
  check_dtype(op, "dy", dy, a.dtype());
  check_shape(op, "dy", dy, a.shape());
  Tensor da = Tensor::empty(a.shape(), a.dtype(), a.device());
  Tensor db = Tensor::empty(a.shape(), a.dtype(), a.device());
  kernels(a).gate_backward({.dy = dy.raw(),
                            .a = a.raw(),
                            .b = b.raw(),
                            .da = da.raw(),
                            .db = db.raw(),
                            .rows = rows,
                            .features = a.dim(1),
                            .dtype = a.dtype(),
                            .activation = kind,
                            .dropout = dropout});
  return {da, db};
}

}  // namespace dragoman
