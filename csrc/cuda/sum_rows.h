// Sums over rows, in one order whatever the GPU: first within chunks of rows, then over the chunks.
#pragma once

#include "core/dtype.h"
#include "core/sequences.h"

namespace dragoman::cuda {

// total (columns,) = or += the sum of the chunks' partial sums, which are `stride` elements apart.
void add_chunks(const float* partial, int64_t chunks, int64_t stride, int64_t columns, bool accumulate,
                float* total);

// total (features,) = or += the sum of the rows in use of x, which are `ld` elements apart.
void sum_rows(DType dtype, const void* x, int64_t ld, const Rows& rows, int64_t features, bool accumulate,
              float* total);

}  // namespace dragoman::cuda
