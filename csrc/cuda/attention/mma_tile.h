// Tiles of bfloat16 in shared memory and their products on tensor cores.
//
// A warp computes 16 rows. Its accumulators c[n][i] belong to row lane / 4 + i / 2 * 8 and column
// n * 8 + lane % 4 * 2 + i % 2.
#pragma once

#include <initializer_list>

#include "cuda/attention/tile.h"
#include "cuda/device.h"

namespace dragoman::cuda {

__device__ inline int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % warp_size;
}
__device__ inline int warp_of_thread() {
  return static_cast<int>(threadIdx.x) / warp_size;
}

// A row of D features. With 16 bytes more, eight rows' pieces of 16 bytes lie in different banks.
template <int D>
constexpr int row_bytes = 2 * D + 16;

// Whether rows may be copied by 16 bytes.
inline bool copies_whole(const AttentionShape& s, std::initializer_list<const void*> pointers) {
  bool whole = s.head_dim % 8 == 0 && s.q_stride % 8 == 0 && s.k_stride % 8 == 0 && s.v_stride % 8 == 0;
  for (const void* pointer : pointers) whole = whole && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  return whole;
}

// R rows of `head_dim` features at `from` into a tile, zeros from row `rows` on and up to D features. With
// `whole` by copies that arrive later.
template <int D, int R>
__device__ void load_tile(char* to, const bf16* from, int64_t stride, int rows, int head_dim, bool whole) {
  constexpr int pieces = D / 8;
  for (int i = static_cast<int>(threadIdx.x); i < R * pieces; i += attention_threads) {
    const int row = i / pieces, d = i % pieces * 8;
    char* piece = to + row * row_bytes<D> + d * 2;
    const bool valid = row < rows && d < head_dim;
    const bf16* source = valid ? from + row * stride + d : from;
    if (whole) {
      copy_async(shared_address(piece), source, valid);
    } else {
      float x[8];
      load8(source, valid ? head_dim - d : 0, x);
      store8(reinterpret_cast<bf16*>(piece), x);
    }
  }
}

// c (16, 8 N) += a (16, D) b^T.   b: (8 N, D)
template <int D, int N>
__device__ void multiply_transposed(float (&c)[N][4], SharedAddress a, SharedAddress b) {
  const int lane = lane_of_thread();
  a += lane % 16 * row_bytes<D> + lane / 16 * 16;
  b += (lane % 8 + lane / 16 * 8) * row_bytes<D> + lane / 8 % 2 * 16;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    const Words4 a_k = ldmatrix(a + k * 32);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      const Words4 b_nk = ldmatrix(b + n * 8 * row_bytes<D> + k * 32);
      mma_bf16(c[n], a_k, b_nk.r[0], b_nk.r[1]);
      mma_bf16(c[n + 1], a_k, b_nk.r[2], b_nk.r[3]);
    }
  }
}

// c (16, D) += a (16, 8 N) b, a rounded to bfloat16.   b: (8 N, D)
template <int D, int N>
__device__ void multiply(float (&c)[D / 8][4], const float (&a)[N][4], SharedAddress b) {
  const int lane = lane_of_thread();
  b += lane % 16 * row_bytes<D> + lane / 16 * 16;
#pragma unroll
  for (int k = 0; k < N / 2; ++k) {
    Words4 a_k;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float (&pair)[4] = a[k * 2 + i / 2];
      a_k.r[i] = pack_bf16(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      const Words4 b_kd = ldmatrix_transposed(b + k * 16 * row_bytes<D> + d * 16);
      mma_bf16(c[d], a_k, b_kd.r[0], b_kd.r[1]);
      mma_bf16(c[d + 1], a_k, b_kd.r[2], b_kd.r[3]);
    }
  }
}

// Row lane / 4 + half * 8 of c (16, D), times factor, to `to` (head_dim,).
template <int D>
__device__ void store_row(bf16* to, const float (&c)[D / 8][4], int half, float factor, int head_dim,
                          bool whole) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int d = 0; d < D / 8; ++d) {
    const float low = c[d][half * 2] * factor, high = c[d][half * 2 + 1] * factor;
    const int at = d * 8 + column;
    if (whole) {
      if (at < head_dim) *reinterpret_cast<uint32_t*>(to + at) = pack_bf16(low, high);
    } else {
      if (at < head_dim) to[at] = from_float<bf16>(low);
      if (at + 1 < head_dim) to[at + 1] = from_float<bf16>(high);
    }
  }
}

// -- A tile of queries against tiles of keys --

constexpr int mma_side = 64;  // queries of a block, and keys of a step

// A block's queries, 16 for each warp, and the tiles of keys that some of them sees.
template <int D>
struct QueryTile {
  static constexpr int bytes = mma_side * row_bytes<D>;  // of a tile in shared memory

  Place place;
  Dropout dropout;
  int first, last;         // queries
  Span seen_first, tiles;  // keys that the first query sees; tiles of keys
  int begin_last;          // the first key that the last query sees
  QueryScores rows[2];     // the lane's; beyond the last query that one again, whose tile row holds zeros
  int64_t mask[2];         // index of the rows' key 0 in the dropout mask
  char* stages;            // two of keys and values
  bool whole;

  __device__ QueryTile(const AttentionShape& s, const Distances& distances, const Task& task, char* stages,
                       bool whole)
      : place(s, task.sequence, task.head),
        dropout(at_its_step(s.dropout)),
        first(task.first),
        last(min(task.first + mma_side, place.queries) - 1),
        seen_first(place.keys_of(s, first)),
        rows{{s, distances, place, row(0)}, {s, distances, place, row(1)}},
        mask{place.mask_index(s, row(0)), place.mask_index(s, row(1))},
        stages(stages),
        whole(whole) {
    const Span seen_last = place.keys_of(s, last);
    begin_last = seen_last.begin;
    tiles = {seen_first.begin / mma_side, (seen_last.end + mma_side - 1) / mma_side};
    if (seen_first.begin >= seen_last.end) tiles.end = tiles.begin;
  }

  // Of the lane's accumulators of a half.
  __device__ int query(int half) const {
    return first + warp_of_thread() * 16 + lane_of_thread() / 4 + half * 8;
  }
  __device__ int row(int half) const { return min(query(half), last); }

  // Rows of queries at `from` into a tile.
  __device__ void load_queries(const AttentionShape& s, char* to, const bf16* from, int64_t stride) const {
    load_tile<D, mma_side>(to, from, stride, place.queries - first, static_cast<int>(s.head_dim), whole);
  }

  __device__ void load_keys(const AttentionShape& s, const void* k, const void* v, int tile) const {
    char* const to = stages + tile % 2 * 2 * bytes;
    const int key = tile * mma_side, head_dim = static_cast<int>(s.head_dim);
    load_tile<D, mma_side>(to, static_cast<const bf16*>(k) + place.k_index(s, key), s.k_stride,
                           place.keys - key, head_dim, whole);
    load_tile<D, mma_side>(to + bytes, static_cast<const bf16*>(v) + place.v_index(s, key), s.v_stride,
                           place.keys - key, head_dim, whole);
  }

  // Calls step(first key, tile of keys, tile of values). The next ones arrive while a step is computed.
  template <class Step>
  __device__ void each_step(const AttentionShape& s, const void* k, const void* v, const Step& step) const {
    if (tiles.begin < tiles.end) load_keys(s, k, v, tiles.begin);
    commit_copies();
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
      if (tile + 1 < tiles.end) load_keys(s, k, v, tile + 1);
      commit_copies();
      wait_copies<1>();
      __syncthreads();
      char* const keys = stages + tile % 2 * 2 * bytes;
      step(tile * mma_side, shared_address(keys), shared_address(keys + bytes));
      __syncthreads();  // the stage may be written again
    }
    wait_copies<0>();
  }

  // The exponents of the weights out of the products, -infinity where a query does not see the key.
  __device__ void finish_scores(int first_key, float (&score)[8][4]) const {
    const bool all = begin_last <= first_key && first_key + mma_side <= seen_first.end;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = first_key + n * 8 + lane_of_thread() % 4 * 2 + i % 2;
        score[n][i] = all || rows[i / 2].sees(key) ? rows[i / 2].at(key, score[n][i]) : -INFINITY;
      }
    }
  }

  // Multiplies by the factors of dropout. A lane computes four blocks of eight keys and gets the others of
  // its rows from the three lanes beside it.
  __device__ void drop(int first_key, float (&c)[8][4]) const {
    if (dropout.threshold == 0) return;
    const int lane = lane_of_thread();
    uint32_t mine = 0, kept[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + (lane % 4 + i / 2 * 4) * 8;
      mine |= kept_bits(dropout, mask[i % 2] + key) << i * 8;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) kept[i] = __shfl_sync(~0u, mine, lane / 4 * 4 + i);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int bit = (n / 4 * 2 + i / 2) * 8 + lane % 4 * 2 + i % 2;
        c[n][i] = kept[n % 4] >> bit & 1 ? c[n][i] * dropout.scale : 0.0f;
      }
    }
  }
};

}  // namespace dragoman::cuda
