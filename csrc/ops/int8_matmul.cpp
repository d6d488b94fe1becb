#include "ops/int8_matmul.h"

#include "core/backend.h"

namespace dragoman {

Tensor int8_matmul(const Tensor& a, const Tensor& b) {
  constexpr const char* op = "int8_matmul";
  constexpr int64_t longest = 65536;  // 255 * 128 * longest still fits in int32
  check_dtype(op, "a", a, DType::uint8);
  check_dtype(op, "b", b, DType::int8);
  check_rank(op, "a", a, 2);
  check_rank(op, "b", b, 2);
  CHECK(b.dim(1) == a.dim(1), op, ": b must have shape (n, ", a.dim(1), "), got ", b.shape());
  CHECK(a.dim(1) <= longest, op, ": a may have at most ", longest, " columns, got ", a.dim(1));
  const Tensor c = Tensor::empty({a.dim(0), b.dim(0)}, DType::int32, a.device());
  kernels(a).int8_matmul({.a = a.data<uint8_t>(),
                          .b = b.data<int8_t>(),
                          .c = c.data<int32_t>(),
                          .m = a.dim(0),
                          .n = b.dim(0),
                          .k = a.dim(1)});
  return c;
}

}  // namespace dragoman
