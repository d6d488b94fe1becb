// residual: y = residual + dropout(x). Its backward is dropout's for x and the identity for residual.
#pragma once

#include <optional>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

struct ResidualForward {
  const float* x;         // (rows, features)
  const float* residual;  // (rows, features)
  float* y;               // (rows, features)
  int64_t rows, features;
  Dropout dropout;
  const int32_t* tokens;  // (1,) or null: rows from there on are zeros in y
};

Tensor residual_forward(const Tensor& x, const Tensor& residual, const Dropout& dropout,
                        const std::optional<Sequences>& sequences);

}  // namespace dragoman
