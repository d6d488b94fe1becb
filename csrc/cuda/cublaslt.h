// Products of matrices by cuBLASLt. The library is opened on first use.
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.h"

namespace dragoman::cuda {

// op(A) is A[i * ld + j] at (i, j), or A[j * ld + i] if transposed.
struct Factor {
  const void* data;
  int64_t ld;
  bool transposed = false;
};

struct Result {
  void* data;
  int64_t ld;
  DType dtype;
  bool accumulate = false;  // C += ...; no bias, no ReLU
};

// C (m, n) = activation(op(A) op(B) + bias), or C += op(A) op(B), with op(A) (m, k) and op(B) (k, n) of
// `dtype`, and bias (n,) or null. All are stored by rows. Sums are float32, never TF32.
//
// The algorithm depends on the sizes, rounded up to one of eight steps in each power of two, and on nothing
// that was computed before. So the same product has the same bits in every run.
void product(int64_t m, int64_t n, int64_t k, DType dtype, const Factor& a, const Factor& b, const Result& c,
             const float* bias = nullptr, bool relu = false);

// Why there is no cuBLASLt, in a sentence; empty where it was opened.
const std::string& cublaslt_problem();

}  // namespace dragoman::cuda
