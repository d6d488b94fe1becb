#include "ops/gather.h"

#include "cuda/copy_rows.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

struct GatheredRows {
  GatherForward p;

  __device__ RowCopy operator()(int64_t i) const {
    return {static_cast<const char*>(p.x) + p.ids[i] * p.row_bytes,
            static_cast<char*>(p.y) + i * p.row_bytes};
  }
};

// A warp owns 256 columns of one row of dx. It looks through all ids, 32 at a time, and adds the rows of dy
// that have its own in order.
template <class T>
__global__ void __launch_bounds__(block_threads) gather_backward_kernel(GatherBackward p) {
  const int lane = threadIdx.x % warp_size;
  const int64_t slabs = ceil_div(p.features, warp_elements);
  const int64_t task = int64_t{blockIdx.x} * block_warps + threadIdx.x / warp_size;
  const int64_t row = task / slabs, column = task % slabs * warp_elements + lane * group_size;
  if (row >= p.rows) return;
  const int64_t count = p.features - column;
  float sum[8] = {};
  for (int64_t first = 0; first < p.num_ids; first += warp_size) {
    const bool own = first + lane < p.num_ids && p.ids[first + lane] == row;
    for (uint32_t found = __ballot_sync(~0u, own); found != 0; found &= found - 1) {
      const int64_t i = first + __popc(~found & (found - 1));  // the lowest lane of `found`
      float dy[8];
      load8(static_cast<const T*>(p.dy) + i * p.features + column, count, dy);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[j] += dy[j];
    }
  }
  store8(p.dx + row * p.features + column, count, sum);
}

}  // namespace

void gather_forward(const GatherForward& p) {
  copy_rows_by(p.num_ids, p.row_bytes, address_of(p.x) | address_of(p.y), GatheredRows{p});
}

void gather_backward(const GatherBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    launch(gather_backward_kernel<decltype(element)>,
           grid_of(ceil_div(p.rows * ceil_div(p.features, warp_elements), block_warps)), block_threads, 0, p);
  });
}

}  // namespace dragoman::cuda
