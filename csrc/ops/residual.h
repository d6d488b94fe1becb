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
  int64_t rows, features;
  DType dtype;  // of the activations
  Dropout dropout;
  const int32_t* tokens;  // (1,) or null: rows from there on are zeros in y
};

Tensor residual_forward(const Tensor& x, const Tensor& residual, const Dropout& dropout,
                        const std::optional<Sequences>& sequences);

}  // namespace dragoman
