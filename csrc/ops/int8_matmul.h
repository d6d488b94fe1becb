// int8_matmul: the exact product of uint8 and int8, for activations and weights that are quantized to 8 bits.
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
