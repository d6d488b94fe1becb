#include "ops/cross_entropy.h"

#include <algorithm>

#include "cuda/cublaslt.h"
#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

constexpr float lowest = -3.4e38f;  // finite, so that a logit of -infinity minus it is not NaN

__device__ float exponential(float x) {
  return exp2_fast(x * 1.44269504f);
}

// Of logits x: the sums are relative to the maximum, so that nothing large cancels.
struct Statistics {
  float maximum, sum, total, count;  // sum: of exp(x - maximum); total: of x - maximum

  __device__ void raise(float to) {
    if (count == 0.0f) {
      maximum = to;
      return;
    }
    sum *= exponential(maximum - to);
    total += count * (maximum - to);
    maximum = to;
  }

  __device__ void add(const float (&x)[8], int64_t size) {
    float to = maximum;
#pragma unroll
    for (int j = 0; j < 8; ++j) to = j < size ? fmaxf(to, x[j]) : to;
    raise(to);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (j >= size) continue;
      const float below = x[j] - maximum;
      sum += exponential(below);
      total += below;
      count += 1.0f;
    }
  }

  // Every lane gets the statistics of its warp.
  __device__ void merge_lanes() {
    raise(warp_max(maximum));
    sum = warp_sum(sum);
    total = warp_sum(total);
    count = warp_sum(count);
  }
};

// A block takes a row. The gradient may overwrite the logits: a thread reads what it writes, and the logit of
// the target is read before the barrier. Row 0 of the buffers is row `first` of the batch.
template <class T>
__global__ void __launch_bounds__(block_threads) take_loss(CrossEntropyForward p, int64_t first) {
  __shared__ Statistics of_warps[block_warps];
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.logits) + row * p.logits_row;
  T* dx = p.dlogits == nullptr ? nullptr : static_cast<T*>(p.dlogits) + row * p.logits_row;
  const bool live = first + row < rows_in_use(p.rows);
  const int32_t id = live ? p.ids[row] : -1;
  const float target = id < 0 ? 0.0f : to_float(x[id]);
  Statistics all = {lowest, 0.0f, 0.0f, 0.0f};
  if (live) {
    for (int64_t i = threadIdx.x * group_size; i < p.vocabulary; i += block_threads * group_size) {
      float values[8];
      load8(x + i, p.vocabulary - i, values);
      all.add(values, p.vocabulary - i);
    }
  }
  all.merge_lanes();
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = all;
  __syncthreads();
  float maximum = lowest;
  for (int warp = 0; warp < block_warps; ++warp) maximum = fmaxf(maximum, of_warps[warp].maximum);
  float sum = 0.0f, total = 0.0f;
  for (int warp = 0; warp < block_warps; ++warp) {
    Statistics part = of_warps[warp];
    part.raise(maximum);
    sum += part.sum;
    total += part.total;
  }
  if (threadIdx.x == 0) {
    double loss = 0.0;
    if (id >= 0) {
      loss = log(static_cast<double>(sum)) - (1.0 - p.smoothing) * (static_cast<double>(target) - maximum);
      if (p.smoothing > 0.0f)
        loss -= p.smoothing * static_cast<double>(total) / static_cast<double>(p.vocabulary);
    }
    p.row_loss[row] = static_cast<float>(loss);
    if (p.softmax != nullptr) {
      p.softmax[2 * row] = live ? maximum : 0.0f;
      p.softmax[2 * row + 1] = live ? sum : 0.0f;
    }
  }
  if (dx == nullptr) return;
  const float factor = *p.factor, multiplier = factor / sum;
  const float everywhere = factor * p.smoothing / static_cast<float>(p.vocabulary);
  const float at_target = everywhere + factor * (1.0f - p.smoothing);
  for (int64_t i = threadIdx.x * group_size; i < p.vocabulary; i += block_threads * group_size) {
    float values[8] = {};
    if (id >= 0) {
      load8(x + i, p.vocabulary - i, values);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        values[j] = exponential(values[j] - maximum) * multiplier - (i + j == id ? at_target : everywhere);
      }
    }
    store8(dx + i, p.vocabulary - i, values);
  }
}

// loss = factor * the sum of row_loss, by one block.
__global__ void __launch_bounds__(block_threads)
    mean_loss(const float* row_loss, Rows rows, const float* factor, float* loss) {
  __shared__ double sums[block_threads];
  const int64_t in_use = rows_in_use(rows);
  double sum = 0.0;
  for (int64_t row = threadIdx.x; row < in_use; row += block_threads) sum += double{row_loss[row]};
  sum = sum_of_threads(sum, sums);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum * static_cast<double>(*factor));
}

void take_losses(const CrossEntropyForward& p, int64_t first, int64_t rows) {
  with_dtype(p.dtype, [&](auto element) {
    launch(take_loss<decltype(element)>, grid_of(rows), dim3(block_threads), 0, p, first);
  });
}

}  // namespace

LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType dtype) {
  // Each chunk reads the weight twice and adds to all of dweight, so shorter chunks cost time. Longer ones
  // take memory. Rows of logits begin at multiples of 16 bytes.
  constexpr int64_t maximum_rows = 4096, maximum_bytes = int64_t{256} << 20, step = 128;
  const int64_t logits_row = ceil_div(vocabulary, 8) * 8;
  const int64_t affordable =
      std::clamp(maximum_bytes / (logits_row * item_size(dtype)), int64_t{1}, maximum_rows);
  const int64_t chunks = std::max<int64_t>(1, ceil_div(rows, affordable));
  return {std::min(affordable, ceil_div(rows, chunks * step) * step), logits_row};  // chunks of like sizes
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  take_losses(p, 0, p.rows.capacity);
  launch(mean_loss, 1, block_threads, 0, p.row_loss, p.rows, p.factor, p.loss);
}

// For each chunk: logits = x weight^T + bias, then losses and dlogits (which overwrite the logits), then the
// products with dlogits.
void linear_cross_entropy_forward(const LinearCrossEntropyForward& p) {
  const int64_t row_size = p.features * item_size(p.dtype);
  const bool need_gradient = p.dx != nullptr || p.dweight != nullptr || p.dbias != nullptr;
  int64_t first = 0;
  do {  // without rows: one empty chunk, which writes zeros to dweight and dbias
    const int64_t rows = std::min(p.chunk_rows, p.rows.bound - first);
    const void* x = static_cast<const char*>(p.x) + first * row_size;
    product(rows, p.vocabulary, p.features, p.dtype, {x, p.features}, {p.weight, p.features, true},
            {p.logits, p.logits_row, p.dtype}, p.bias);
    take_losses({.logits = p.logits,
                 .logits_row = p.logits_row,
                 .ids = p.ids + first,
                 .loss = nullptr,
                 .row_loss = p.row_loss + first,
                 .softmax = nullptr,
                 .dlogits = need_gradient ? p.logits : nullptr,
                 .dtype = p.dtype,
                 .rows = p.rows,
                 .vocabulary = p.vocabulary,
                 .smoothing = p.smoothing,
                 .factor = p.factor},
                first, rows);
    if (p.dx != nullptr) {
      product(rows, p.features, p.vocabulary, p.dtype, {p.logits, p.logits_row}, {p.weight, p.features},
              {static_cast<char*>(p.dx) + first * row_size, p.features, p.dtype});
    }
    if (p.dweight != nullptr) {
      product(p.vocabulary, p.features, rows, p.dtype, {p.logits, p.logits_row, true}, {x, p.features},
              {p.dweight, p.features, DType::float32, first > 0});
    }
    if (p.dbias != nullptr) {  // rows that are not in use have no gradient
      sum_rows(p.dtype, p.logits, p.logits_row, all_rows(rows), p.vocabulary, first > 0, p.dbias);
    }
    first += p.chunk_rows;
  } while (first < p.rows.bound);
  clear_tail(p.row_loss, DType::float32, p.rows, 1);
  if (p.dx != nullptr) clear_tail(p.dx, p.dtype, p.rows, p.features);
  launch(mean_loss, 1, block_threads, 0, p.row_loss, p.rows, p.factor, p.loss);
}

}  // namespace dragoman::cuda
