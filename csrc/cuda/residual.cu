#include "ops/residual.h"

#include "cuda/dropout_mask.h"
#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

namespace {

struct AddDropped {
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[2][8], float (&y)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[1][j] + x[0][j] * factor[j];
  }
};

}  // namespace

void residual_forward(const ResidualForward& p) {
  map(p.dtype, {p.x, p.residual}, {p.y}, p.rows, p.features, AddDropped{p.dropout});
}

}  // namespace dragoman::cuda
