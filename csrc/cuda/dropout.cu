#include "ops/dropout.h"

#include "cuda/activation.h"
#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

void dropout_forward(const DropoutForward& p) {
  map(p.dtype, {p.x}, {p.y}, p.rows, p.features, Finish{Activation::none, p.dropout});
}

}  // namespace dragoman::cuda
