#include "ops/embedding.h"

#include "cuda/dropout_mask.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

// A thread takes eight columns of a row.
template <class T>
__global__ void __launch_bounds__(block_threads) embed(EmbeddingForward p) {
  const int64_t groups = (p.features + group_size - 1) / group_size;
  const int64_t index = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  const int64_t row = index / groups, column = index % groups * group_size;
  if (row >= p.sequences.rows.capacity) return;
  const int64_t count = p.features - column;
  float y[8] = {};
  if (row < rows_in_use(p.sequences.rows)) {
    load8(p.weight + p.ids[row] * p.features + column, count, y);
    float position[8] = {}, factor[8];
    if (p.positions != nullptr) {
      const int64_t sequence = sequence_of(p.sequences, row);
      const int64_t start = p.starts == nullptr ? 0 : p.starts[sequence];
      const int64_t place = start + row - p.sequences.offsets[sequence];
      load8(p.positions + place * p.features + column, count, position);
    }
    keep_factors(at_its_step(p.dropout), row * p.features + column, factor);
#pragma unroll
    for (int j = 0; j < 8; ++j) y[j] = (y[j] * p.scale + position[j]) * factor[j];
  }
  store8(static_cast<T*>(p.y) + row * p.features + column, count, y);
}

// sum (8,) += eight columns of the gradient of a row before its dropout.
template <class T>
__device__ void add_gradient(const EmbeddingBackward& p, const Dropout& dropout, int64_t row, int64_t column,
                             float (&sum)[8]) {
  float dy[8], factor[8];
  load8(static_cast<const T*>(p.dy) + row * p.features + column, p.features - column, dy);
  keep_factors(dropout, row * p.features + column, factor);
#pragma unroll
  for (int j = 0; j < 8; ++j) sum[j] += dy[j] * factor[j];
}

// sums (num_pieces, features): a warp takes 256 columns of a piece.
template <class T>
__global__ void __launch_bounds__(block_threads, 1) sum_pieces(EmbeddingBackward p, float* sums) {
  const int64_t piece = int64_t{blockIdx.x} * block_warps + threadIdx.x / 32;
  const int64_t column = int64_t{blockIdx.y} * warp_elements + threadIdx.x % 32 * group_size;
  if (piece >= p.num_pieces || column >= p.features) return;
  const Dropout dropout = at_its_step(p.dropout);
  float sum[8] = {};
  for (int64_t i = p.pieces[piece]; i < p.pieces[piece + 1]; ++i) {
    add_gradient<T>(p, dropout, p.order[i], column, sum);
  }
  store8(sums + piece * p.features + column, p.features - column, sum);
}

// dweight += scale * the pieces of each id in their order. The first piece of an id adds them all.
__global__ void __launch_bounds__(block_threads) add_pieces(EmbeddingBackward p, const float* sums) {
  const int64_t first = int64_t{blockIdx.x} * block_warps + threadIdx.x / 32;
  const int64_t column = int64_t{blockIdx.y} * warp_elements + threadIdx.x % 32 * group_size;
  if (first >= p.num_pieces || column >= p.features) return;
  const auto id_of = [&](int64_t piece) { return p.ids[p.order[p.pieces[piece]]]; };
  const int32_t id = id_of(first);
  if (first > 0 && id_of(first - 1) == id) return;
  const int64_t count = p.features - column;
  float* dweight = p.dweight + id * p.features + column;
  float sum[8] = {};
  for (int64_t piece = first; piece < p.num_pieces && id_of(piece) == id; ++piece) {
    float part[8];
    load8(sums + piece * p.features + column, count, part);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += part[j];
  }
  float total[8];
  load8(dweight, count, total);
#pragma unroll
  for (int j = 0; j < 8; ++j) total[j] += sum[j] * p.scale;
  store8(dweight, count, total);
}

// A thread takes eight columns of a position, and adds the sequences that have it in their order.
template <class T>
__global__ void __launch_bounds__(block_threads) add_positions(EmbeddingBackward p) {
  const int64_t groups = (p.features + group_size - 1) / group_size;
  const int64_t index = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  const int64_t position = index / groups, column = index % groups * group_size;
  if (position >= p.max_positions) return;
  const Dropout dropout = at_its_step(p.dropout);
  const int64_t count = p.features - column;
  float* dpositions = p.dpositions + position * p.features + column;
  float sum[8] = {};
  if (p.accumulate_positions) load8(dpositions, count, sum);
  for (int64_t i = 0; i < p.sequences.num_sequences; ++i) {
    const int64_t place = position - (p.starts == nullptr ? 0 : p.starts[i]);
    if (place < 0 || place >= p.sequences.lengths[i]) continue;
    add_gradient<T>(p, dropout, p.sequences.offsets[i] + place, column, sum);
  }
  store8(dpositions, count, sum);
}

}  // namespace

void embedding_forward(const EmbeddingForward& p) {
  const int64_t groups = p.sequences.rows.capacity * ceil_div(p.features, group_size);
  with_dtype(p.dtype, [&](auto element) {
    launch(embed<decltype(element)>, grid_of(ceil_div(groups, block_threads)), dim3(block_threads), 0, p);
  });
}

void embedding_backward(const EmbeddingBackward& p) {
  if (p.features == 0) return;
  if (p.dweight != nullptr && !p.accumulate_weight) {
    const auto size = static_cast<size_t>(p.vocabulary * p.features) * sizeof(float);
    check(cudaMemsetAsync(p.dweight, 0, size, stream()), "embedding_backward");
  }
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    if (p.dweight != nullptr && p.num_pieces > 0) {
      const Scratch sums(p.num_pieces * p.features * static_cast<int64_t>(sizeof(float)));
      const dim3 grid = grid_of(ceil_div(p.num_pieces, block_warps), ceil_div(p.features, warp_elements));
      launch(sum_pieces<T>, grid, dim3(block_threads), 0, p, sums.as<float>());
      launch(add_pieces, grid, dim3(block_threads), 0, p, static_cast<const float*>(sums.as<float>()));
    }
    if (p.dpositions != nullptr) {
      const int64_t groups = p.max_positions * ceil_div(p.features, group_size);
      launch(add_positions<T>, grid_of(ceil_div(groups, block_threads)), dim3(block_threads), 0, p);
    }
  });
}

}  // namespace dragoman::cuda
