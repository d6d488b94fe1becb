// The bias of a product.
#pragma once

#include <optional>

#include "cuda/kernels.h"
#include "cuda/scratch.h"
#include "ops/elementwise.h"

namespace dragoman::cuda {

// cuBLASLt adds a bias of the result's dtype, before the sum is rounded.
class EpilogueBias {
 public:
  // bias (size,) or null
  EpilogueBias(const float* bias, int64_t size, DType dtype) : data_(bias) {
    if (bias == nullptr || dtype == DType::float32 || size == 0) return;
    rounded_.emplace(size * item_size(dtype));
    cast({.x = bias, .y = rounded_->data, .size = size, .from = DType::float32, .to = dtype});
    data_ = rounded_->data;
  }

  const void* data() const { return data_; }

 private:
  std::optional<Scratch> rounded_;
  const void* data_;
};

}  // namespace dragoman::cuda
