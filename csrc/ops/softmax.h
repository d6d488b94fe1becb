// softmax: y = exp(x - max) / sum exp(x - max) over the last axis.
#pragma once

#include "core/tensor.h"

namespace dragoman {

struct SoftmaxForward {
  const void* x;  // (rows, features)
  void* y;        // (rows, features)
  int64_t rows, features;
  DType dtype;
};

struct SoftmaxBackward {
  const void* dy;  // (rows, features)
  const void* y;   // (rows, features)
  void* dx;        // (rows, features): y * (dy - sum(dy * y))
  int64_t rows, features;
  DType dtype;
};

Tensor softmax_forward(const Tensor& x);
Tensor softmax_backward(const Tensor& dy, const Tensor& y);

}  // namespace dragoman
