// residual: y = residual + dropout(x). Its backward is dropout's for x and the identity for residual.
#pragma once

#include <optional>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

struct ResidualForward {
  const void* x;         // (rows, features)
  const void* residual;  // (rows, features)
  void* y;               // (rows, features)
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Dropout dropout;
};

Tensor residual_forward(const Tensor& x, const Tensor& residual, const Dropout& dropout,
                        const std::optional<Sequences>& sequences);

}  // namespace dragoman
