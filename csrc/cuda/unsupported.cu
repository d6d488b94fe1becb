// What this backend leaves out is refused by name. A kernel written elsewhere replaces the one here.
#include "cuda/check.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

#define DRAGOMAN_REFUSE(name, Params)              \
  __attribute__((weak)) void name(const Params&) { \
    unsupported("kernels of this op");             \
  }
DRAGOMAN_KERNELS(DRAGOMAN_REFUSE)
#undef DRAGOMAN_REFUSE

__attribute__((weak)) int64_t packed_weight_size(const PackWeight&) {
  return 0;  // cuBLASLt takes weights as they are
}

__attribute__((weak)) LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType) {
  constexpr int64_t most_rows = 4096;
  return {rows < most_rows ? rows : most_rows, (vocabulary + 7) / 8 * 8};
}

}  // namespace dragoman::cuda
