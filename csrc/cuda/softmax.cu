#include "ops/softmax.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

// A row is the work of one warp or, where it is long, of a block. It is read once for each pass: maximum,
// sum, output.
template <class T, int warps>
__global__ void __launch_bounds__(block_threads) softmax_forward_kernel(SoftmaxForward p) {
  __shared__ float shared[32];
  constexpr int threads = warps * warp_size, stride = threads * group_size;
  const int64_t row = int64_t{blockIdx.x} * (block_threads / threads) + threadIdx.x / threads;
  const int64_t first = threadIdx.x % threads * group_size, features = row < p.rows ? p.features : 0;
  const T* x_row = static_cast<const T*>(p.x) + row * p.features;
  T* y_row = static_cast<T*>(p.y) + row * p.features;
  float x[8], maximum = -INFINITY, sum = 0.0f;
  for (int64_t at = first; at < features; at += stride) {
    load8(x_row + at, features - at, x);
#pragma unroll
    for (int j = 0; j < 8; ++j) maximum = at + j < features ? fmaxf(maximum, x[j]) : maximum;
  }
  maximum = team_max<warps>(maximum, shared);
  for (int64_t at = first; at < features; at += stride) {
    load8(x_row + at, features - at, x);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += at + j < features ? expf(x[j] - maximum) : 0.0f;
  }
  sum = team_sum<warps>(sum, shared);
  for (int64_t at = first; at < features; at += stride) {
    load8(x_row + at, features - at, x);
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = expf(x[j] - maximum) / sum;
    store8(y_row + at, features - at, x);
  }
}

// dx = y * (dy - sum(dy * y))
template <class T, int warps>
__global__ void __launch_bounds__(block_threads) softmax_backward_kernel(SoftmaxBackward p) {
  __shared__ float shared[32];
  constexpr int threads = warps * warp_size, stride = threads * group_size;
  const int64_t row = int64_t{blockIdx.x} * (block_threads / threads) + threadIdx.x / threads;
  const int64_t first = threadIdx.x % threads * group_size, features = row < p.rows ? p.features : 0;
  const T* dy_row = static_cast<const T*>(p.dy) + row * p.features;
  const T* y_row = static_cast<const T*>(p.y) + row * p.features;
  T* dx_row = static_cast<T*>(p.dx) + row * p.features;
  float dy[8], y[8], sum = 0.0f;
  for (int64_t at = first; at < features; at += stride) {
    load8(dy_row + at, features - at, dy);
    load8(y_row + at, features - at, y);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += dy[j] * y[j];
  }
  sum = team_sum<warps>(sum, shared);
  for (int64_t at = first; at < features; at += stride) {
    load8(dy_row + at, features - at, dy);
    load8(y_row + at, features - at, y);
#pragma unroll
    for (int j = 0; j < 8; ++j) dy[j] = y[j] * (dy[j] - sum);
    store8(dx_row + at, features - at, dy);
  }
}

}  // namespace

void softmax_forward(const SoftmaxForward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    launch_rows(softmax_forward_kernel<T, 1>, softmax_forward_kernel<T, block_warps>, p.rows, p.features, p);
  });
}

void softmax_backward(const SoftmaxBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    launch_rows(softmax_backward_kernel<T, 1>, softmax_backward_kernel<T, block_warps>, p.rows, p.features,
                p);
  });
}

}  // namespace dragoman::cuda
