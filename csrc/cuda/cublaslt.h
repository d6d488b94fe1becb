// Products of matrices by cuBLASLt. The library is opened on first use.
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.h"

namespace dragoman::cuda {

// C (m, n) = activation(op(A) op(B) + bias), or C += op(A) op(B). All are stored by rows.
//
// op(A) is (m, k): A[i * lda + l], or A[l * lda + i] if transpose_a. op(B) is (k, n): B[l * ldb + j], or
// B[j * ldb + l] if transpose_b. Sums are float32, never TF32.
struct Product {
  int64_t m, n, k;
  const void* a;
  int64_t lda;
  bool transpose_a = false;
  const void* b;
  int64_t ldb;
  bool transpose_b = false;
  void* c;
  int64_t ldc;
  bool accumulate = false;     // C += ...; no bias, no ReLU
  const void* bias = nullptr;  // (n,) of C's dtype, or null
  bool relu = false;
  DType dtype = DType::float32;    // of A and B
  DType c_dtype = DType::float32;  // of C
};

// The algorithm depends on the sizes, rounded up to one of eight steps in each power of two, and on nothing
// that was computed before. So the same product has the same bits in every run.
void product(const Product& p);

// Why there is no cuBLASLt, in a sentence; empty where it was opened.
const std::string& cublaslt_problem();

}  // namespace dragoman::cuda
