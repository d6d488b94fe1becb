#include "ops/int8_matmul.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

void int8_matmul(const Int8Matmul&) {
  unsupported("int8 products");
}

}  // namespace dragoman::cuda
