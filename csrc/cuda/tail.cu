#include "cuda/tail.h"

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/rows.h"

namespace dragoman::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(block_threads) clear_tail_kernel(T* y, Rows rows, int64_t features) {
  const int64_t end = rows.capacity * features, step = int64_t{gridDim.x} * block_threads;
  int64_t index = rows_in_use(rows) * features + int64_t{blockIdx.x} * block_threads + threadIdx.x;
  for (; index < end; index += step) y[index] = from_float<T>(0.0f);
}

}  // namespace

void clear_tail(void* y, DType dtype, const Rows& rows, int64_t features) {
  if (rows.tokens == nullptr && rows.bound == rows.capacity) return;
  constexpr int64_t maximum_blocks = 264, block_elements = 4096;
  const int64_t blocks = std::min(maximum_blocks, ceil_div(rows.capacity * features, block_elements));
  with_dtype(dtype, [&](auto element) {
    using T = decltype(element);
    launch(clear_tail_kernel<T>, grid_of(blocks), dim3(block_threads), 0, static_cast<T*>(y), rows, features);
  });
}

}  // namespace dragoman::cuda
