// dropout: y = x * mask * scale (Srivastava et al. 2014). Backward computes the mask again; it is never
// stored.
#pragma once

#include <optional>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// Forward and backward are the same map: dx = dy * mask * scale.
struct DropoutForward {
  const void* x;  // (rows, features)
  void* y;        // (rows, features), may be x
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  Dropout dropout;
};

// ValueError when the mask has more than the 2^35 elements that its 32-bit block counter can number.
void check_mask_size(const char* op, const Dropout& dropout, int64_t rows, int64_t features);

Tensor dropout_forward(const Tensor& x, const Dropout& dropout, const std::optional<Sequences>& sequences);
Tensor dropout_backward(const Tensor& dy, const Dropout& dropout, const std::optional<Sequences>& sequences);

}  // namespace dragoman
