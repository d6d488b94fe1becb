#include "cuda/sum_rows.h"

#include "cuda/launch.h"
#include "cuda/rows.h"
#include "cuda/scratch.h"

namespace dragoman::cuda {

namespace {

constexpr int64_t chunk_rows = 128;

// A block owns 32 columns. Warp w adds chunks w, w + 8 and so on; then the warps' sums are added in order.
__global__ void __launch_bounds__(block_threads)
    add_chunks_kernel(const float* partial, int64_t chunks, int64_t stride, int64_t columns, bool accumulate,
                      float* total) {
  __shared__ float sums[block_warps][warp_size];
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const int64_t column = int64_t{blockIdx.x} * warp_size + lane;
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 4
    for (int64_t chunk = warp; chunk < chunks; chunk += block_warps) sum += partial[chunk * stride + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
  for (int other = 1; other < block_warps; ++other) sum += sums[other][lane];
  total[column] = accumulate ? total[column] + sum : sum;
}

// A block adds one chunk's rows of 256 columns: warp w rows w, w + 8 and so on, then the warps' sums.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sum_chunk_kernel(const T* x, int64_t ld, Rows rows, int64_t features, float* partial) {
  __shared__ float sums[block_warps][warp_elements];
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const int64_t slabs = ceil_div(features, warp_elements);
  const int64_t chunk = blockIdx.x / slabs, first_column = blockIdx.x % slabs * warp_elements;
  const int64_t column = first_column + lane * group_size;
  const int64_t end_row = min(rows_in_use(rows), (chunk + 1) * chunk_rows);
  float sum[8] = {};
  for (int64_t row = chunk * chunk_rows + warp; row < end_row; row += block_warps) {
    float value[8];
    load8(x + row * ld + column, features - column, value);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += value[j];
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) sums[warp][lane * group_size + j] = sum[j];
  __syncthreads();
  const int64_t own = first_column + threadIdx.x;
  if (own >= features) return;
  float total = 0.0f;
  for (int other = 0; other < block_warps; ++other) total += sums[other][threadIdx.x];
  partial[chunk * features + own] = total;
}

}  // namespace

void add_chunks(const float* partial, int64_t chunks, int64_t stride, int64_t columns, bool accumulate,
                float* total) {
  launch(add_chunks_kernel, grid_of(ceil_div(columns, warp_size)), block_threads, 0, partial, chunks, stride,
         columns, accumulate, total);
}

void sum_rows(DType dtype, const void* x, int64_t ld, const Rows& rows, int64_t features, bool accumulate,
              float* total) {
  const int64_t chunks = ceil_div(rows.bound, chunk_rows), slabs = ceil_div(features, warp_elements);
  const Scratch scratch(chunks * features * static_cast<int64_t>(sizeof(float)));
  with_dtype(dtype, [&](auto element) {
    using T = decltype(element);
    launch(sum_chunk_kernel<T>, grid_of(chunks * slabs), block_threads, 0, static_cast<const T*>(x), ld, rows,
           features, scratch.as<float>());
  });
  add_chunks(scratch.as<float>(), chunks, features, features, accumulate, total);
}

}  // namespace dragoman::cuda
