#include "ops/frozen.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

void quantize_rows(const QuantizeRows&) {
  unsupported("int8 weights");
}

void unpack_weight(const UnpackWeight&) {
  unsupported("packed weights");
}

void frozen_linear(const FrozenLinear&) {
  unsupported("packed weights");
}

void frozen_embedding(const FrozenEmbedding&) {
  unsupported("packed weights");
}

}  // namespace dragoman::cuda
