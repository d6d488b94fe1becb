// Shared by row-wise kernels: the rows in use, whose they are, and sums and maxima over a row.
#pragma once

#include <cstdint>

#include "core/sequences.h"
#include "cuda/vector.h"

namespace dragoman::cuda {

constexpr int block_threads = 256, block_warps = block_threads / warp_size;
constexpr int group_size = 8;                          // elements that a thread handles at a time
constexpr int warp_elements = warp_size * group_size;  // elements that a warp handles at a time

inline Rows all_rows(int64_t count) {
  return {count, count, nullptr};
}

__device__ inline int64_t rows_in_use(const Rows& rows) {
  return rows.tokens == nullptr ? rows.bound : *rows.tokens;
}

// All blocks of a grid together write zeros to the rows that are not in use.
template <class T>
__device__ void zero_tail(T* data, const Rows& rows, int64_t features) {
  const int64_t in_use = rows_in_use(rows);
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = in_use * features + int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < rows.capacity * features; i += step) {
    data[i] = from_float<T>(0.0f);
  }
}

// The largest i < count with first[i] <= value, where first[0] is; `first` never falls.
template <class T>
__device__ inline int64_t last_at_most(const T* first, int64_t count, int64_t value) {
  int64_t low = 0, high = count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first[middle] <= value) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// The sequence of a packed batch that holds `row`, which must be in use.
__device__ inline int64_t sequence_of(const SequencesView& sequences, int64_t row) {
  return last_at_most(sequences.offsets, sequences.num_sequences, row);
}

// x as it will be read again from memory of type T.
template <class T>
__device__ inline float rounded(float x) {
  return to_float(from_float<T>(x));
}

// The sum over one warp, or over a block of more warps with `shared` memory of 32 floats.
template <int warps>
__device__ inline float team_sum(float x, float* shared) {
  return warps == 1 ? warp_sum(x) : block_sum(x, shared);
}

template <int warps>
__device__ inline float team_max(float x, float* shared) {
  return warps == 1 ? warp_max(x) : block_max(x, shared);
}

// The sum over a block, halves added to halves. `sums` is shared memory of a double for each thread.
__device__ inline double sum_of_threads(double x, double* sums) {
  sums[threadIdx.x] = x;
  __syncthreads();
  for (unsigned half = block_threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

}  // namespace dragoman::cuda
