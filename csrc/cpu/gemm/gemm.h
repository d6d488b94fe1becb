// The matrix product every CPU kernel uses.
#pragma once

#include <cstdint>

#include "ops/activation.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// C (m, n) = activation(op(A) op(B) + bias), or C += op(A) op(B).
//
// op(A) is (m, k): A[i * lda + l], or A[l * lda + i] if transpose_a. op(B) is (k, n): B[l * ldb + j], or B[j
// * ldb + l] if transpose_b. The sum over k runs in blocks of one fixed length, in order, for any m, n and
// number of threads. So a row's bits depend only on that row of op(A) and on op(B). Sums are float32; a
// bfloat16 C is rounded once.
struct Gemm {
  int64_t m, n, k;
  const void* a;
  int64_t lda;
  bool transpose_a = false;
  const void* b;
  int64_t ldb;
  bool transpose_b = false;
  const float* packed_b = nullptr;  // op(B) as pack_b wrote it, read instead of b, or null
  void* c;
  int64_t ldc;
  bool accumulate = false;                   // C += ...; C is float32, no bias, no activation
  const float* bias = nullptr;               // (n,) or null
  Activation activation = Activation::none;  // applied to the complete sum
  void* pre = nullptr;             // (m, n) with ldc, or null: the sum and bias before the activation
  DType dtype = DType::float32;    // of A and B: float32 or bfloat16
  DType c_dtype = DType::float32;  // of C and pre: float32 or bfloat16
};

void gemm(const Gemm& g);

// y (m, n) = x (m, k) times the transpose of a weight (n, k), which is read where `packed` is null.
static inline Gemm times_weight(int64_t m, int64_t n, int64_t k, const void* x, const void* weight,
                                const void* packed, void* y, DType dtype) {
  return {.m = m,
          .n = n,
          .k = k,
          .a = x,
          .lda = k,
          .b = weight,
          .ldb = k,
          .transpose_b = true,
          .packed_b = static_cast<const float*>(packed),
          .c = y,
          .ldc = n,
          .dtype = dtype};
}

// Rows [begin, end) of a matrix. `begin` is a multiple of 64, and so is `end`, unless it is the last row's.
struct PackedRows {
  int64_t begin, end;
};

// packed (packed_size,) = b (n, k) in the order in which `gemm` with transpose_b reads it on this instruction
// set. pack_b packs some rows, of which the first is at `b`.
int64_t packed_size(int64_t n, int64_t k, DType dtype);
void pack_b(int64_t n, int64_t k, const void* b, DType dtype, const PackedRows& rows, float* packed);
// row (k,) = row j of b
void unpack_b(int64_t n, int64_t k, const float* packed, DType dtype, int64_t j, void* row);

}  // namespace dragoman::cpu::DRAGOMAN_ISA
