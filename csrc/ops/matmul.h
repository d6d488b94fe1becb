// matmul: C = op(A) op(B), the plain product of two matrices.
#pragma once

#include <string>

#include "core/tensor.h"

namespace dragoman {

struct Matmul {
  const void* a;  // (m, k), or (k, m) if transpose_a
  const void* b;  // (k, n), or (n, k) if transpose_b
  void* c;        // (m, n)
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  DType dtype;    // of a and b
  DType c_dtype;  // of c: `dtype`, or float32
};

// c has the dtype of a and b, or float32. Its gradients are products as well.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b, const std::string& dtype);

}  // namespace dragoman
