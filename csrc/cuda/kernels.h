// Declares the kernels, which launch and return, or throw; and brings what their files share.
#pragma once

#include "core/backend.h"
#include "cuda/launch.h"
#include "cuda/rows.h"
#include "cuda/scratch.h"

namespace dragoman::cuda {

#define DRAGOMAN_DECLARE(name, Params) void name(const Params& p);
DRAGOMAN_KERNELS(DRAGOMAN_DECLARE)
#undef DRAGOMAN_DECLARE
int64_t packed_weight_size(const PackWeight& p);
LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType dtype);

// Launches one of two kernels for rows of so many features: a warp takes a short one, a block a long one.
template <class... Params, class... Arguments>
void launch_rows(void (*by_warp)(Params...), void (*by_block)(Params...), int64_t rows, int64_t features,
                 const Arguments&... arguments) {
  const bool is_short = features <= 4 * warp_elements;
  launch(is_short ? by_warp : by_block, grid_of(is_short ? ceil_div(rows, block_warps) : rows), block_threads,
         0, arguments...);
}

}  // namespace dragoman::cuda
