#include "ops/residual.h"

#include "core/backend.h"
#include "ops/dropout.h"

namespace dragoman {

Tensor residual_forward(const Tensor& x, const Tensor& residual, const Dropout& dropout,
                        const std::optional<Sequences>& sequences) {
  check_activations("residual", "x", x);
  check_rank("residual", "x", x, 2);
  check_dtype("residual", "residual", residual, x.dtype());
  check_shape("residual", "residual", residual, x.shape());
  check_mask_size("residual", dropout, x.dim(0), x.dim(1));
  const Rows rows = rows_of("residual", sequences, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).residual_forward({.x = x.raw(),
                               .residual = residual.raw(),
                               .y = y.raw(),
                               .rows = rows,
                               .features = x.dim(1),
                               .dtype = x.dtype(),
                               .dropout = dropout});
  return y;
}

}  // namespace dragoman
