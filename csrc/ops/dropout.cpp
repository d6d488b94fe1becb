#include "ops/dropout.h"

#include "core/backend.h"

namespace dragoman {

namespace {

Tensor apply_mask(const char* op, const char* argument, const Tensor& x, const Dropout& dropout,
                  const std::optional<Sequences>& sequences) {
  check_activations(op, argument, x);
  check_rank(op, argument, x, 2);
  check_mask_size(op, dropout, x.dim(0), x.dim(1));
  const Rows rows = rows_of(op, sequences, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).dropout_forward({.x = x.raw(),
                              .y = y.raw(),
                              .rows = rows,
                              .features = x.dim(1),
                              .dtype = x.dtype(),
                              .dropout = dropout});
  return y;
}

}  // namespace

void check_mask_size(const char* op, const Dropout& dropout, int64_t rows, int64_t features) {
  constexpr int64_t maximum = int64_t{1} << 35;
  CHECK(dropout.threshold == 0 || features == 0 || rows <= maximum / features, op,
        ": with dropout rows * features must be at most 2^35, got ", rows, " * ", features);
}

Tensor dropout_forward(const Tensor& x, const Dropout& dropout, const std::optional<Sequences>& sequences) {
  return apply_mask("dropout", "x", x, dropout, sequences);
}

Tensor dropout_backward(const Tensor& dy, const Dropout& dropout, const std::optional<Sequences>& sequences) {
  return apply_mask("dropout_backward", "dy", dy, dropout, sequences);
}

}  // namespace dragoman
