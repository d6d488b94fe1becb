#include "ops/matmul.h"

#include "core/backend.h"

namespace dragoman {

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b,
              const std::string& dtype) {
  check_activations("matmul", "a", a);
  check_dtype("matmul", "b", b, a.dtype());
  check_rank("matmul", "a", a, 2);
  check_rank("matmul", "b", b, 2);
  const DType out = parse_activation_dtype("matmul", dtype);
  CHECK(out == a.dtype() || out == DType::float32, "matmul: dtype must be ", a.dtype(), " or float32, got ",
        out);
  const int64_t m = a.dim(transpose_a ? 1 : 0), k = a.dim(transpose_a ? 0 : 1);
  const int64_t n = b.dim(transpose_b ? 0 : 1), b_k = b.dim(transpose_b ? 1 : 0);
  CHECK(k == b_k, "matmul: b must have as many rows as a has columns, got shapes ", a.shape(), " and ",
        b.shape());
  const Tensor c = Tensor::empty({m, n}, out, a.device());
  kernels(a).matmul({.a = a.raw(),
                     .b = b.raw(),
                     .c = c.raw(),
                     .m = m,
                     .n = n,
                     .k = k,
                     .transpose_a = transpose_a,
                     .transpose_b = transpose_b,
                     .dtype = a.dtype(),
                     .c_dtype = out});
  return c;
}

}  // namespace dragoman
