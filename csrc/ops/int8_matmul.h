// int8_matmul: the exact product of unsigned and signed bytes, for activations and weights quantized to 8
// bits.
#pragma once

#include "core/tensor.h"

namespace dragoman {

struct Int8Matmul {
  const uint8_t* a;  // (m, k)
  const int8_t* b;   // (n, k)
  int32_t* c;        // (m, n)
  int64_t m, n, k;
};

// a b^T, int32.
Tensor int8_matmul(const Tensor& a, const Tensor& b);

}  // namespace dragoman
