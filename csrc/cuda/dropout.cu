#include "ops/dropout.h"

#include "cuda/dropout_mask.h"
#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

namespace {

struct Drop {
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[1][8], float (&y)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[0][j] * factor[j];
  }
};

}  // namespace

void dropout_forward(const DropoutForward& p) {
  map(p.dtype, {p.x}, {p.y}, p.rows, p.features, Drop{p.dropout});
}

}  // namespace dragoman::cuda
