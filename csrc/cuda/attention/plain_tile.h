// Tiles of 32 rows in float32 and their products, for every dtype and width: the plain kernels' parts.
//
// A thread computes rows row + {0, 16} and columns column + {0, 8, 16, 24} of a product. A row of a tile is
// one float longer than 32, so that rows and columns both lie in different banks.
#pragma once

#include "cuda/attention/attention.h"
#include "cuda/device.h"

namespace dragoman::cuda {

constexpr int plain_side = 32;
constexpr int plain_pitch = plain_side + 1;
constexpr int plain_tile = plain_side * plain_pitch;  // floats

using PlainProducts = float[2][4];

// Largest dynamic shared memory of a block on compute capability 8.0.
constexpr int64_t largest_shared = 163 << 10;

__device__ inline int plain_row() {
  return static_cast<int>(threadIdx.x) / 8;
}
__device__ inline int plain_column() {
  return static_cast<int>(threadIdx.x) % 8;
}

// tile[i][j] = from[i][first + j] for i < rows and first + j < features, else 0.
template <class T>
__device__ void load_plain(float* tile, const T* from, int64_t stride, int rows, int64_t first,
                           int64_t features) {
  for (int i = static_cast<int>(threadIdx.x); i < plain_side * plain_side; i += attention_threads) {
    const int row = i / plain_side, column = i % plain_side;
    const bool valid = row < rows && first + column < features;
    tile[row * plain_pitch + column] = valid ? to_float(from[row * stride + first + column]) : 0.0f;
  }
}

// c += a b over a depth of 32.   a(row, k), b(k, column)
template <class A, class B>
__device__ void add_product(PlainProducts& c, const A& a, const B& b) {
#pragma unroll 4
  for (int k = 0; k < plain_side; ++k) {
    const float a_k[2] = {a(plain_row(), k), a(plain_row() + 16, k)};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float b_kj = b(k, plain_column() + j * 8);
      c[0][j] += a_k[0] * b_kj;
      c[1][j] += a_k[1] * b_kj;
    }
  }
}

// A score, times log2 e, under the cap; as it is where there is none.
__device__ inline float capped(const AttentionShape& s, float score) {
  const float cap = s.score_cap * log2_e;
  return cap == 0.0f ? score : cap * tanhf(score / cap);
}

// The derivative of `capped`, from its result.
__device__ inline float cap_slope(const AttentionShape& s, float score) {
  const float tanh = s.score_cap == 0.0f ? 0.0f : score / (s.score_cap * log2_e);
  return 1.0f - tanh * tanh;
}

// Rows of a matrix in global memory.
template <class T>
struct PlainRows {
  const T* first;
  int64_t stride;
  int rows;
};

// to (32, 32) = x y^T over all features. `left` and `right` are tiles of scratch memory. It begins with a
// barrier; `to` is complete after the next one.
template <class T>
__device__ void multiply_rows(float* to, const PlainRows<T>& x, const PlainRows<T>& y, int64_t features,
                              float* left, float* right) {
  PlainProducts c = {};
  for (int64_t d = 0; d < features; d += plain_side) {
    __syncthreads();
    load_plain(left, x.first, x.stride, x.rows, d, features);
    load_plain(right, y.first, y.stride, y.rows, d, features);
    __syncthreads();
    add_product(
        c, [&](int i, int k) { return left[i * plain_pitch + k]; },
        [&](int k, int j) { return right[j * plain_pitch + k]; });
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) to[(plain_row() + i * 16) * plain_pitch + plain_column() + j * 8] = c[i][j];
  }
}

// sums (32, width) += a y over 32 rows of y.   a(row, k). `right` is a tile of scratch memory. It begins with
// a barrier.
template <class T, class A>
__device__ void add_rows(float* sums, int64_t width, const A& a, const PlainRows<T>& y, int64_t features,
                         float* right) {
  for (int64_t d = 0; d < features; d += plain_side) {
    __syncthreads();
    load_plain(right, y.first, y.stride, y.rows, d, features);
    __syncthreads();
    PlainProducts c = {};
    add_product(c, a, [&](int k, int j) { return right[k * plain_pitch + j]; });
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int64_t column = d + plain_column() + j * 8;
        if (column < features) sums[(plain_row() + i * 16) * width + column] += c[i][j];
      }
    }
  }
}

// A row of sums is `features` long, and as much longer as needed to be odd.
inline int64_t plain_width(int64_t features) {
  return features | 1;
}

// Bytes of `tiles` tiles, sums (32, width) and `more` floats.
inline size_t plain_shared(int tiles, int64_t width, int64_t more) {
  const int64_t bytes = (tiles * plain_tile + plain_side * width + more) * int64_t{sizeof(float)};
  if (bytes > largest_shared) unsupported("attention heads of this width");
  return static_cast<size_t>(bytes);
}

// Eight keys of a row belong to one thread: four threads share a row.
__device__ inline int shared_row() {
  return static_cast<int>(threadIdx.x) / 4;
}
__device__ inline int shared_part() {
  return static_cast<int>(threadIdx.x) % 4;
}

// A block's queries, the keys that some of them sees, and the thread's query among them.
struct PlainQueries {
  Place place;
  Dropout dropout;
  int first, count;  // queries
  Span keys;
  int row, part, query;  // beyond the last query that one again

  __device__ PlainQueries(const AttentionShape& s, const Task& task)
      : place(s, task.sequence, task.head),
        dropout(at_its_step(s.dropout)),
        first(task.first),
        count(min(plain_side, place.queries - first)),
        keys{place.keys_of(s, first).begin / plain_side * plain_side,
             place.keys_of(s, first + count - 1).end},
        row(shared_row()),
        part(shared_part()),
        query(first + min(row, count - 1)) {}
};

// Writes the block's rows of y: factor(row) times (sums + weights by distance times the relative table).
// sums (32, width) has head_dim features, then the weights where there is a table.
template <class T, class Factor>
__device__ void store_plain(const AttentionShape& s, const PlainQueries& own, const float* sums,
                            int64_t width, const float* table, const Factor& factor, T* y) {
  for (int64_t i = threadIdx.x; i < own.count * s.head_dim; i += attention_threads) {
    const int64_t r = i / s.head_dim, d = i % s.head_dim;
    float total = sums[r * width + d];
    for (int64_t a = 0; table != nullptr && a <= 2 * s.clip; ++a) {
      total += sums[r * width + s.head_dim + a] * table[a * s.head_dim + d];
    }
    y[own.place.row_index(s, own.first + static_cast<int>(r)) * s.head_dim + d] =
        from_float<T>(total * factor(r));
  }
}

// Adds a row's 32 values to the sums by distance (2 * clip + 1,), in order: one thread of the row does.
__device__ inline void add_by_distance(float* sums, const float* values, int64_t clip, int64_t distance) {
  if (shared_part() != 0) return;
  for (int j = 0; j < plain_side; ++j) sums[relative_row(clip, distance + j)] += values[j];
}

}  // namespace dragoman::cuda
