// Tiles of bfloat16 in shared memory and their products on tensor cores.
//
// A warp computes 16 rows. Its accumulators c[n][i] belong to row lane / 4 + i / 2 * 8 and column
// n * 8 + lane % 4 * 2 + i % 2.
#pragma once

#include <initializer_list>

#include "cuda/attention/tile.h"
#include "cuda/device.h"

namespace dragoman::cuda {

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
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
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
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
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

// A tile of 64 keys of a warp's 16 queries: the exponents of the weights out of the products, -infinity where
// a query does not see the key.
__device__ inline void finish_scores(const QueryScores (&rows)[2], int first_key, bool whole,
                                     float (&score)[8][4]) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + n * 8 + column + i % 2;
      const QueryScores& row = rows[i / 2];
      score[n][i] = whole || row.sees(key) ? row.at(key, score[n][i]) : -INFINITY;
    }
  }
}

// The dropout mask of a tile of 64 keys of a warp's 16 queries. A lane computes four blocks of eight keys and
// gets the others of its rows from the three lanes beside it.
struct KeptKeys {
  uint32_t word[4];  // of the lanes 4 (lane / 4) + 0 .. 3

  // `index` is the mask's of key 0, of each of the lane's two rows.
  __device__ KeptKeys(const Dropout& dropout, const int64_t (&index)[2], int first_key) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    uint32_t mine = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + (lane % 4 + i / 2 * 4) * 8;
      mine |= kept_bits(dropout, index[i % 2] + key) << i * 8;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) word[i] = __shfl_sync(~0u, mine, lane / 4 * 4 + i);
  }

  // Of accumulator c[n][i].
  __device__ bool at(int n, int i) const {
    const int bit = static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
    return word[n % 4] >> ((n / 4 * 2 + i / 2) * 8 + bit) & 1;
  }
};

}  // namespace dragoman::cuda
