// Pointwise activations, and gates: activation(a) * b.
//
// ReLU; GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), exact, x Phi(x), and in its tanh form; SiLU, x
// sigmoid(x) (Elfwing et al. 2018, arXiv:1702.03118); tanh; sigmoid. The gates are the variants of GLU
// (Shazeer 2020, arXiv:2002.05202; Dauphin et al. 2017, arXiv:1612.08083).
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

enum class Activation : int32_t { none, relu, gelu, gelu_tanh, silu, tanh, sigmoid };

// "none" or the name of an activation; ValueError otherwise.
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

// y = dropout(activation(a) * b).
struct GateForward {
  const void* a;  // (rows, features)
  const void* b;  // (rows, features)
  void* y;        // (rows, features)
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Activation activation;
  Dropout dropout;
};

struct GateBackward {
  const void* dy;  // (rows, features)
  const void* a;   // (rows, features)
  const void* b;   // (rows, features)
  void* da;        // (rows, features)
  void* db;        // (rows, features)
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Activation activation;
  Dropout dropout;
};

Tensor activation_forward(const Tensor& x, const std::string& activation,
                          const std::optional<Sequences>& sequences);
Tensor activation_backward(const Tensor& dy, const Tensor& x, const std::string& activation,
                           const std::optional<Sequences>& sequences);

Tensor gate_forward(const Tensor& a, const Tensor& b, const std::string& activation, const Dropout& dropout,
                    const std::optional<Sequences>& sequences);
// The gradients of a and b.
std::tuple<Tensor, Tensor> gate_backward(const Tensor& dy, const Tensor& a, const Tensor& b,
                                         const std::string& activation, const Dropout& dropout,
                                         const std::optional<Sequences>& sequences);

}  // namespace dragoman
