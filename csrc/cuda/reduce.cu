#include "ops/reduce.h"

#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

// y[i] = factor * the sum of elements [i * length, (i + 1) * length) of x, which has `size` elements. A sum
// is the work of one warp or, where it is long, of a block.
template <class T, class Y, int warps>
__global__ void __launch_bounds__(block_threads)
    sum_runs_kernel(const T* x, int64_t size, int64_t runs, int64_t length, float factor, Y* y) {
  __shared__ float shared[32];
  constexpr int threads = warps * warp_size;
  const int lane = threadIdx.x % threads;
  const int64_t run = int64_t{blockIdx.x} * (block_threads / threads) + threadIdx.x / threads;
  const int64_t begin = run * length, end = min(size, begin + length);
  float total = 0.0f;
  for (int64_t at = begin + lane * group_size; at < end; at += threads * group_size) {
    float value[8];
    load8(x + at, end - at, value);
#pragma unroll
    for (int j = 0; j < 8; ++j) total += value[j];
  }
  total = team_sum<warps>(total, shared);
  if (lane == 0 && run < runs) y[run] = from_float<Y>(total * factor);
}

template <class T, class Y>
void sum_runs(const T* x, int64_t size, int64_t runs, int64_t length, float factor, Y* y) {
  launch_rows(sum_runs_kernel<T, Y, 1>, sum_runs_kernel<T, Y, block_warps>, runs, length, x, size, runs,
              length, factor, y);
}

template <class T, class Y>
void reduce_to(const Reduce& p) {
  constexpr int64_t chunk = 16384;
  const T* x = static_cast<const T*>(p.x);
  Y* y = static_cast<Y*>(p.y);
  const int64_t size = p.rows * p.features;
  if (p.over == ReduceOver::rows) {
    const Scratch total(p.features * static_cast<int64_t>(sizeof(float)));
    sum_rows(p.dtype, p.x, p.features, all_rows(p.rows), p.features, false, total.as<float>());
    map<float, Y>({total.data}, {p.y}, all_rows(p.features), 1, Scale{p.factor});
  } else if (p.over == ReduceOver::features) {
    sum_runs(x, size, p.rows, p.features, p.factor, y);
  } else {
    const int64_t chunks = ceil_div(size, chunk);
    const Scratch partial(chunks * static_cast<int64_t>(sizeof(float)));
    sum_runs(x, size, chunks, chunk, 1.0f, partial.as<float>());
    sum_runs(partial.as<float>(), chunks, 1, chunks, p.factor, y);
  }
}

}  // namespace

void reduce(const Reduce& p) {
  with_dtype(p.dtype, [&](auto from) {
    with_dtype(p.y_dtype, [&](auto to) { reduce_to<decltype(from), decltype(to)>(p); });
  });
}

}  // namespace dragoman::cuda
