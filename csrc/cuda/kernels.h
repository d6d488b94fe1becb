// Declares every CUDA kernel. A function launches and returns; it throws when that fails.
#pragma once

#include "core/backend.h"

namespace dragoman::cuda {

#define DRAGOMAN_DECLARE(name, Params) void name(const Params& p);
DRAGOMAN_KERNELS(DRAGOMAN_DECLARE)
#undef DRAGOMAN_DECLARE
int64_t packed_weight_size(const PackWeight& p);
LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType dtype);

}  // namespace dragoman::cuda
