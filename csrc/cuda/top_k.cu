#include "ops/top_k.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

struct Candidate {
  float value;
  int32_t id;
};

__device__ bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// A block takes a row. A thread knows the best of its own columns; the one whose column was chosen looks
// through them again.
__global__ void __launch_bounds__(block_threads) top_k_kernel(TopK p) {
  __shared__ float partial[32];
  __shared__ Candidate of_warps[2][block_warps];  // used in turn, so that one barrier is enough
  const float* row = p.logits + blockIdx.x * p.vocabulary;
  const int64_t first = threadIdx.x * group_size, stride = block_threads * group_size;
  float x[8];
  const auto best_after = [&](const Candidate& last) {
    Candidate best = {-INFINITY, static_cast<int32_t>(p.vocabulary)};
    for (int64_t at = first; at < p.vocabulary; at += stride) {
      load8(row + at, p.vocabulary - at, x);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const Candidate next = {x[j], static_cast<int32_t>(at) + j};
        if (next.id < p.vocabulary && before(last, next) && before(next, best)) best = next;
      }
    }
    return best;
  };
  Candidate own = best_after({INFINITY, -1});
  float maximum = 0.0f;
  for (int64_t rank = 0; rank < p.k; ++rank) {
    Candidate best = own;
#pragma unroll
    for (int distance = warp_size / 2; distance > 0; distance /= 2) {
      const Candidate other = {__shfl_xor_sync(~0u, best.value, distance),
                               __shfl_xor_sync(~0u, best.id, distance)};
      if (before(other, best)) best = other;
    }
    Candidate* found = of_warps[rank % 2];
    if (threadIdx.x % warp_size == 0) found[threadIdx.x / warp_size] = best;
    __syncthreads();
    for (int warp = 0; warp < block_warps; ++warp) {
      if (before(found[warp], best)) best = found[warp];
    }
    if (rank == 0) maximum = best.value;
    if (threadIdx.x == 0) {
      p.ids[blockIdx.x * p.k + rank] = min(best.id, static_cast<int32_t>(p.vocabulary) - 1);
      p.values[blockIdx.x * p.k + rank] = best.value;
    }
    if (best.id == own.id) own = best_after(own);
  }
  const float base = maximum == -INFINITY ? 0.0f : maximum;  // -infinity minus itself is NaN
  float sum = 0.0f;
  for (int64_t at = first; at < p.vocabulary; at += stride) {
    load8(row + at, p.vocabulary - at, x);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += at + j < p.vocabulary ? expf(x[j] - base) : 0.0f;
  }
  sum = block_sum(sum, partial);
  if (threadIdx.x != 0) return;
  p.softmax[2 * blockIdx.x] = maximum;
  p.softmax[2 * blockIdx.x + 1] = sum;
}

}  // namespace

void top_k(const TopK& p) {
  launch(top_k_kernel, grid_of(p.rows), block_threads, 0, p);
}

}  // namespace dragoman::cuda
