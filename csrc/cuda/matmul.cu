#include "ops/matmul.h"

#include "cuda/cublaslt.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

void matmul(const Matmul& p) {
  product({.m = p.m,
           .n = p.n,
           .k = p.k,
           .a = p.a,
           .lda = p.transpose_a ? p.m : p.k,
           .transpose_a = p.transpose_a,
           .b = p.b,
           .ldb = p.transpose_b ? p.k : p.n,
           .transpose_b = p.transpose_b,
           .c = p.c,
           .ldc = p.n,
           .dtype = p.dtype,
           .c_dtype = p.c_dtype});
}

}  // namespace dragoman::cuda
