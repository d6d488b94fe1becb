// attention, forward: bfloat16 heads of up to 128 features on tensor cores (FlashAttention-2, Dao 2023,
// arXiv:2307.08691). The other cases are in plain_forward.cu.
#include "cuda/attention/attention.h"
#include "cuda/attention/mma_tile.h"

namespace dragoman::cuda {

namespace {

// A tile of queries, over the key tiles that some of them sees.
template <int D>
__global__ void __launch_bounds__(attention_threads, D <= 64 ? 4 : 2)
    attention_forward_kernel(AttentionForward p, Distances distances, bool whole) {
  DYNAMIC_SHARED(shared);
  const AttentionShape& s = p.shape;
  bf16* const out = static_cast<bf16*>(p.out);
  zero_tail(out, s.q_sequences.rows, s.num_heads * s.head_dim);
  zero_tail(p.logsumexp, s.q_sequences.rows, s.num_heads);
  const Task task(s.q_sequences, s.num_heads, mma_side);
  if (task.empty(s.q_sequences)) return;
  distances.key_products = nullptr;  // such calls are plain: the compiler drops what reads them
  const QueryTile<D> tile(s, distances, task, shared + QueryTile<D>::bytes, whole);
  tile.load_queries(s, shared, static_cast<const bf16*>(p.q) + tile.place.q_index(s, tile.first), s.q_stride);
  float sums[D / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  tile.each_step(s, p.k, p.v, [&](int first_key, SharedAddress keys, SharedAddress values) {
    float score[8][4] = {};
    multiply_transposed<D>(score, shared_address(shared + warp_of_thread() * 16 * row_bytes<D>), keys);
    tile.finish_scores(first_key, score);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        largest = fmaxf(largest, fmaxf(score[n][half * 2], score[n][half * 2 + 1]));
      }
      largest = largest_of_four(largest);
      const float shift = largest == -INFINITY ? 0.0f : largest;
      const float shrink = exp2_fast(maximum[half] - shift);
      maximum[half] = largest;
      sum[half] *= shrink;
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        sums[d][half * 2] *= shrink;
        sums[d][half * 2 + 1] *= shrink;
      }
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int i = half * 2; i < half * 2 + 2; ++i) {
          score[n][i] = exp2_fast(score[n][i] - shift);
          sum[half] += score[n][i];
        }
      }
    }
    tile.drop(first_key, score);
    multiply<D>(sums, score, values);
  });

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = sum_of_four(sum[half]);
    if (tile.query(half) > tile.last) continue;
    const int64_t index = tile.place.row_index(s, tile.query(half));
    store_row<D>(out + index * s.head_dim, sums, half, total == 0.0f ? 0.0f : 1.0f / total,
                 static_cast<int>(s.head_dim), whole);
    if (lane_of_thread() % 4 == 0) p.logsumexp[index] = maximum[half] + log2f(total);
  }
}

template <int D>
void forward(const AttentionForward& p, Distances distances) {
  const bool whole = copies_whole(p.shape, {p.q, p.k, p.v, p.out});
  launch_tiles(attention_forward_kernel<D>, p.shape.q_sequences, p.shape.num_heads, mma_side,
               5 * QueryTile<D>::bytes, p, distances, whole);
}

}  // namespace

void attention_forward(const AttentionForward& p) {
  const DistanceScratch scratch(p.shape, p.q);
  if (on_tensor_cores(p.shape)) {
    with_head_dim(p.shape.head_dim, [&]<int D>() { forward<D>(p, scratch.distances); });
  } else {
    plain_attention_forward(p, scratch.distances);
  }
  if (p.weights != nullptr) write_attention_weights(p, scratch.distances);
}

}  // namespace dragoman::cuda
