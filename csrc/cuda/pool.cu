#include "ops/pool.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

// A block pools 256 columns of one sequence: each warp a part of its rows, in order, then the warps' results
// in order.
template <class T>
__global__ void __launch_bounds__(block_threads) pool_forward_kernel(PoolForward p) {
  __shared__ float values[block_warps][warp_elements];
  __shared__ float places[block_warps][warp_elements];
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const int64_t slabs = ceil_div(p.features, warp_elements);
  const int64_t i = blockIdx.x / slabs, first_column = blockIdx.x % slabs * warp_elements;
  const int64_t column = first_column + lane * group_size, count = p.features - column;
  const T* x = static_cast<const T*>(p.x) + p.sequences.offsets[i] * p.features + column;
  const int rows = p.sequences.lengths[i];
  int begin = 0, end = rows;
  if (p.kind == PoolKind::first) end = min(rows, 1);
  if (p.kind == PoolKind::last) begin = max(0, rows - 1);
  const int part = (end - begin + block_warps - 1) / block_warps;  // rows of a warp
  const bool largest = p.kind == PoolKind::max;
  float value[8], place[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) value[j] = largest && rows > 0 ? -INFINITY : 0.0f, place[j] = 0.0f;
  for (int row = begin + warp * part; row < min(end, begin + (warp + 1) * part); ++row) {
    float x_row[8];
    load8(x + row * p.features, count, x_row);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (!largest) {
        value[j] += x_row[j];
      } else if (x_row[j] > value[j] || row == 0) {  // a NaN in the first row stays
        value[j] = x_row[j];
        place[j] = static_cast<float>(row);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    values[warp][lane * group_size + j] = value[j];
    places[warp][lane * group_size + j] = place[j];
  }
  __syncthreads();
  const int64_t own = first_column + threadIdx.x;
  if (own >= p.features) return;
  float total = values[0][threadIdx.x], where = places[0][threadIdx.x];
  for (int other = 1; other < block_warps; ++other) {
    const float next = values[other][threadIdx.x];
    if (!largest) {
      total += next;
    } else if (next > total) {
      total = next;
      where = places[other][threadIdx.x];
    }
  }
  if (p.kind == PoolKind::mean && rows > 0) total /= static_cast<float>(rows);
  static_cast<T*>(p.y)[i * p.features + own] = from_float<T>(total);
  if (largest) p.places[i * p.features + own] = where;
}

// A warp writes a row.
template <class T>
__global__ void __launch_bounds__(block_threads) pool_backward_kernel(PoolBackward p) {
  const int64_t row = int64_t{blockIdx.x} * block_warps + threadIdx.x / warp_size;
  if (row >= p.sequences.rows.capacity) return;
  const bool live = row < rows_in_use(p.sequences.rows);
  const int64_t i = live ? sequence_of(p.sequences, row) : 0;
  const int rows = live ? p.sequences.lengths[i] : 0;
  const int64_t place = live ? row - p.sequences.offsets[i] : 0;
  const bool chosen = place == (p.kind == PoolKind::last ? rows - 1 : 0);
  for (int64_t column = threadIdx.x % warp_size * group_size; column < p.features; column += warp_elements) {
    const int64_t count = p.features - column;
    float dx[8], places[8];
    load8(static_cast<const T*>(p.dy) + i * p.features + column, live ? count : 0, dx);
    load8(p.places + i * p.features + column, live && p.kind == PoolKind::max ? count : 0, places);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (p.kind == PoolKind::mean) {
        dx[j] = live ? dx[j] / static_cast<float>(rows) : 0.0f;
      } else if (p.kind == PoolKind::max) {
        dx[j] = places[j] == static_cast<float>(place) ? dx[j] : 0.0f;
      } else if (!chosen) {
        dx[j] = 0.0f;
      }
    }
    store8(static_cast<T*>(p.dx) + row * p.features + column, count, dx);
  }
}

}  // namespace

void pool_forward(const PoolForward& p) {
  with_dtype(p.dtype, [&](auto element) {
    launch(pool_forward_kernel<decltype(element)>,
           grid_of(p.sequences.num_sequences * ceil_div(p.features, warp_elements)), block_threads, 0, p);
  });
}

void pool_backward(const PoolBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    launch(pool_backward_kernel<decltype(element)>, grid_of(ceil_div(p.sequences.rows.capacity, block_warps)),
           block_threads, 0, p);
  });
}

}  // namespace dragoman::cuda
