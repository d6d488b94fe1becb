#include "ops/matmul.h"

#include "cuda/cublaslt.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

void matmul(const Matmul& p) {
  product(p.m, p.n, p.k, p.dtype, {p.a, p.transpose_a ? p.m : p.k, p.transpose_a},
          {p.b, p.transpose_b ? p.k : p.n, p.transpose_b}, {p.c, p.n, p.c_dtype});
}

}  // namespace dragoman::cuda
