// Pointwise activations: ReLU and GELU (Hendrycks & Gimpel 2016, the exact form x Phi(x)).
#pragma once

#include <optional>
#include <string>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

enum class Activation : int32_t { none, relu, gelu };

// "none", "relu" or "gelu"; ValueError otherwise.
Activation parse_activation(const char* op, const std::string& text);

struct ActivationForward {
  const void* x;  // (rows, features)
  void* y;        // (rows, features)
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Activation activation;
};

struct ActivationBackward {
  const void* dy;  // (rows, features)
  const void* x;   // (rows, features)
  void* dx;        // (rows, features)
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Activation activation;
};

Tensor activation_forward(const Tensor& x, const std::string& activation,
                          const std::optional<Sequences>& sequences);
Tensor activation_backward(const Tensor& dy, const Tensor& x, const std::string& activation,
                           const std::optional<Sequences>& sequences);

}  // namespace dragoman
