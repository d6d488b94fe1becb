// Shared by attention's kernels: the tasks of a grid, the keys that a query sees, scores, dropout.
#pragma once

#include "cuda/dropout_mask.h"
#include "cuda/launch.h"
#include "cuda/rows.h"
#include "ops/attention.h"

namespace dragoman::cuda {

constexpr int attention_threads = 128;
constexpr float log2_e = 1.44269504f;

// Keys or queries [begin, end) of a sequence.
struct Span {
  int begin, end;
};

// One sequence and one query head.
struct Place {
  int head, kv_head;
  int queries, keys;
  int64_t q_begin, k_begin;  // first rows of the sequence
  int64_t first_position;    // of the sequence's first query

  __device__ Place(const AttentionShape& s, int64_t sequence, int head)
      : head(head),
        kv_head(head / static_cast<int>(s.num_heads / s.kv_heads)),
        queries(s.q_sequences.lengths[sequence]),
        keys(s.k_sequences.lengths[sequence]),
        q_begin(s.q_sequences.offsets[sequence]),
        k_begin(s.k_sequences.offsets[sequence]),
        first_position(s.query_offset >= 0 ? s.query_offset : keys - queries) {}

  // The keys that a query sees. Neither end decreases from one query to the next.
  __device__ Span keys_of(const AttentionShape& s, int query) const {
    const int64_t position = first_position + query;
    int64_t begin = 0, end = keys;
    if (s.causal) end = min(end, position + 1);
    if (s.window >= 0) {
      begin = min(int64_t{keys}, max(int64_t{0}, position - s.window));
      end = min(end, position + s.window + 1);
    }
    return {static_cast<int>(begin), static_cast<int>(max(begin, end))};
  }

  // The queries that see one of the keys [begin, end).
  __device__ Span queries_of(const AttentionShape& s, int begin, int end) const {
    int64_t first = 0, last = queries;
    if (s.causal) first = max(first, begin - first_position);
    if (s.window >= 0) {
      first = max(first, begin - s.window - first_position);
      last = min(last, end + s.window - first_position);
    }
    first = min(first, last);
    return {static_cast<int>(max(int64_t{0}, first)), static_cast<int>(max(int64_t{0}, last))};
  }

  __device__ int64_t q_index(const AttentionShape& s, int query) const {
    return (q_begin + query) * s.q_stride + head * s.head_dim;
  }
  __device__ int64_t k_index(const AttentionShape& s, int key) const {
    return (k_begin + key) * s.k_stride + kv_head * s.head_dim;
  }
  __device__ int64_t v_index(const AttentionShape& s, int key) const {
    return (k_begin + key) * s.v_stride + kv_head * s.head_dim;
  }
  // Of logsumexp; times head_dim, of out.
  __device__ int64_t row_index(const AttentionShape& s, int query) const {
    return (q_begin + query) * s.num_heads + head;
  }
  // Of a query's weight of key 0 in the dropout mask: a multiple of 8.
  __device__ int64_t mask_index(const AttentionShape& s, int query) const {
    return row_index(s, query) * ((s.k_sequences.max_length + 7) / 8 * 8);
  }
};

// -- The grid: a block of threads for each tile of rows, head and sequence --

__host__ __device__ inline int64_t tiles_of(const SequencesView& sequences, int side) {
  return ceil_div(sequences.max_length, side);
}

// Starts a kernel of attention_threads. At least one block, which writes the zeros of the tail.
template <class... Params, class... Arguments>
void launch_tiles(void (*kernel)(Params...), const SequencesView& sequences, int64_t heads, int side,
                  size_t shared_bytes, const Arguments&... arguments) {
  const int64_t tasks = tiles_of(sequences, side) * heads * sequences.num_sequences;
  launch(kernel, grid_of(max(int64_t{1}, tasks)), attention_threads, shared_bytes, arguments...);
}

struct Task {
  int64_t sequence;
  int head, first;  // the first row of the tile

  // Empty where the sequence is shorter or the grid has more blocks than tasks.
  __device__ Task(const SequencesView& sequences, int64_t heads, int side)
      : sequence(sequences.num_sequences), head(0), first(0) {
    const int64_t tiles = tiles_of(sequences, side);
    if (tiles * sequences.num_sequences == 0) return;
    sequence = blockIdx.x / tiles / heads;
    head = static_cast<int>(blockIdx.x / tiles % heads);
    first = static_cast<int>(blockIdx.x % tiles) * side;
  }
  __device__ bool empty(const SequencesView& sequences) const {
    return sequence >= sequences.num_sequences || first >= sequences.lengths[sequence];
  }
};

// -- What scores get by the distance from query to key --

// Prepared once for a call; null where there is no such table.
struct Distances {
  // For each head the biases of all distances in order, times log2 e.
  const float* lines = nullptr;         // (num_heads, size)
  const int32_t* bucket = nullptr;      // (size,) of a relative bias
  int64_t lowest = 0, size = 0;         // distances [lowest, lowest + size)
  const float* key_products = nullptr;  // (q_capacity, num_heads, 2 * clip + 1) q with relative_keys
};

// The row of a relative table for a distance.
__device__ inline int64_t relative_row(int64_t clip, int64_t distance) {
  return clip + max(-clip, min(clip, distance));
}

// One query: what makes the exponent of a weight, to the base 2, out of a product q k.
struct QueryScores {
  Span keys;
  float factor;
  const float* line;      // biases of the head at the query's distance to key 0, or null
  const float* relative;  // what relative keys add, by distance, or null
  int64_t position, clip;

  __device__ QueryScores(const AttentionShape& s, const Distances& distances, const Place& place, int query)
      : keys(place.keys_of(s, query)),
        factor(s.scale * log2_e),
        line(nullptr),
        relative(nullptr),
        position(place.first_position + query),
        clip(s.clip) {
    if (distances.lines != nullptr) {
      line = distances.lines + place.head * distances.size - position - distances.lowest;
    }
    if (distances.key_products != nullptr) {
      relative = distances.key_products + place.row_index(s, query) * (2 * clip + 1);
    }
  }

  __device__ bool sees(int key) const { return key >= keys.begin && key < keys.end; }

  // Of a key that the query sees.
  __device__ float at(int key, float product) const {
    if (relative != nullptr) product += relative[relative_row(clip, key - position)];
    product *= factor;
    return line == nullptr ? product : product + line[key];
  }
};

// Over the four threads of a row. Every one gets the result.
__device__ inline float sum_of_four(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ inline float largest_of_four(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

// Bit j says whether index + j is kept; index is a multiple of 8.
__device__ inline uint32_t kept_bits(const Dropout& dropout, int64_t index) {
  const PhiloxBlock words = dropout_block(dropout, static_cast<uint32_t>(index / 8));
  uint32_t bits = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) bits |= uint32_t{draw_of(words, j) >= dropout.threshold} << j;
  return bits;
}

// What a query's softmax was. A query without keys has the weights 0.
__device__ inline float used_logsumexp(float logsumexp) {
  return logsumexp == -INFINITY ? INFINITY : logsumexp;
}

// A softmax over one key is constant: no gradient, where dweight - delta leaves rounding errors.
__device__ inline bool varies(const Span& keys) {
  return keys.end - keys.begin > 1;
}

}  // namespace dragoman::cuda
