// The parts of attention on CUDA, and which case each of them serves.
#pragma once

#include "cuda/attention/tile.h"
#include "cuda/scratch.h"

namespace dragoman::cuda {

// The others go through plain kernels: float32, wide heads, relative keys and values, capped scores.
inline bool on_tensor_cores(const AttentionShape& s) {
  return s.dtype == DType::bfloat16 && s.head_dim <= 128 && s.relative_keys == nullptr &&
         s.relative_values == nullptr && s.score_cap == 0.0f;
}

// Calls body with the number of features that a tile has room for.
template <class Body>
void with_head_dim(int64_t head_dim, const Body& body) {
  if (head_dim <= 32) return body.template operator()<32>();
  if (head_dim <= 64) return body.template operator()<64>();
  if (head_dim <= 96) return body.template operator()<96>();
  body.template operator()<128>();
}

// The Distances of a call.
struct DistanceScratch {
  DistanceScratch(const AttentionShape& s, const void* q);
  Scratch lines, key_products;
  Distances distances;
};

// to (q_capacity, num_heads, 2 * clip + 1) = the products of rows (q_capacity, num_heads, head_dim), `stride`
// elements apart, with the rows of a relative table.
void multiply_by_table(const AttentionShape& s, const void* rows, int64_t stride, const float* table,
                       float* to);

// dtable (2 * clip + 1, head_dim) = or += factor times the sum over rows and heads of sums (q_capacity,
// num_heads, 2 * clip + 1) times rows.
void relative_table_gradient(const AttentionShape& s, const float* sums, const void* rows, int64_t stride,
                             float factor, bool accumulate, float* dtable);

// Of any dtype, head_dim and options.
void plain_attention_forward(const AttentionForward& p, const Distances& distances);
void plain_attention_backward(const AttentionBackward& p, const Distances& distances);
void write_attention_weights(const AttentionForward& p, const Distances& distances);

// -- The gradient of a relative bias: partial sums (num_sequences, tiles, num_buckets, num_heads) --

// Writes a task's sums (num_buckets,), or zeros if `sums` is null.
__device__ inline void write_bias_partial(const AttentionShape& s, const Task& task, int side,
                                          const float* sums, float* partial) {
  const int64_t tiles = tiles_of(s.q_sequences, side);
  if (task.sequence >= s.q_sequences.num_sequences) return;
  partial += (task.sequence * tiles + task.first / side) * s.num_buckets * s.num_heads + task.head;
  for (int64_t i = threadIdx.x; i < s.num_buckets; i += attention_threads) {
    partial[i * s.num_heads] = sums == nullptr ? 0.0f : sums[i];
  }
}

// Adds the scores' gradients of a tile of S queries and S keys, (S, S + 1) in shared memory, to their
// buckets. All threads call it. `distance` is that of the tile's first query and first key, diagonal (2 S,)
// shared memory, sums (num_buckets,) likewise. It begins and ends with a barrier.
template <int S>
__device__ void add_to_buckets(const float* tile, int64_t distance, const Distances& distances,
                               int64_t num_buckets, float* diagonal, float* sums) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * S - 1; i += attention_threads) {
    const int offset = i - (S - 1);  // key - query
    float sum = 0.0f;
    for (int query = max(0, -offset); query < min(S, S - offset); ++query) {
      sum += tile[query * (S + 1) + query + offset];
    }
    diagonal[i] = sum;
  }
  __syncthreads();
  for (int64_t bucket = threadIdx.x; bucket < num_buckets; bucket += attention_threads) {
    float sum = sums[bucket];
    for (int i = 0; i < 2 * S - 1; ++i) {
      // Beyond the lines lie keys and queries that do not exist, with gradients 0.
      const int64_t line =
          min(distances.size - 1, max(int64_t{0}, distance + i - (S - 1) - distances.lowest));
      if (distances.bucket[line] == bucket) sum += diagonal[i];
    }
    sums[bucket] = sum;
  }
  __syncthreads();
}

}  // namespace dragoman::cuda
