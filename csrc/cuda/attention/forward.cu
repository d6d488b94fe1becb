// attention, forward: bfloat16 heads of up to 128 features on tensor cores (FlashAttention-2, Dao 2023,
// arXiv:2307.08691). The other cases are in plain_forward.cu.
#include "cuda/attention/attention.h"
#include "cuda/attention/mma_tile.h"

namespace dragoman::cuda {

namespace {

constexpr int side = 64;  // queries of a block, and keys of a step

template <int D>
constexpr int shared_bytes = 5 * side * row_bytes<D>;  // q, and k and v of two steps

// One tile of queries, 16 for each warp, over the key tiles that some of them sees. The keys and values of
// the next step arrive while one is computed.
template <int D>
__global__ void __launch_bounds__(attention_threads, D <= 64 ? 4 : 2)
    attention_forward_kernel(AttentionForward p, BiasLines lines, bool whole) {
  DYNAMIC_SHARED(shared);
  const AttentionShape& s = p.shape;
  bf16* const out = static_cast<bf16*>(p.out);
  zero_tail(out, s.q_sequences.rows, s.num_heads * s.head_dim);
  zero_tail(p.logsumexp, s.q_sequences.rows, s.num_heads);
  const Task task(s.q_sequences, s.num_heads, side);
  if (task.empty(s.q_sequences)) return;
  const Place place(s, task.sequence, task.head);
  const Dropout dropout = at_its_step(s.dropout);
  const int head_dim = static_cast<int>(s.head_dim);
  const int lane = static_cast<int>(threadIdx.x) % warp_size,
            warp = static_cast<int>(threadIdx.x) / warp_size;
  const int last = min(task.first + side, place.queries) - 1;
  const Span seen_first = place.keys_of(s, task.first), seen_last = place.keys_of(s, last);

  char* const query_tile = shared;
  const auto stage = [&](int tile) { return shared + (1 + tile % 2 * 2) * side * row_bytes<D>; };
  const auto load_keys = [&](int tile) {
    const int key = tile * side;
    load_tile<D, side>(stage(tile), static_cast<const bf16*>(p.k) + place.k_index(s, key), s.k_stride,
                       place.keys - key, head_dim, whole);
    load_tile<D, side>(stage(tile) + side * row_bytes<D>,
                       static_cast<const bf16*>(p.v) + place.v_index(s, key), s.v_stride, place.keys - key,
                       head_dim, whole);
  };

  // Rows beyond the sequence repeat the last one, with a query of zeros.
  int row[2];
  for (int half = 0; half < 2; ++half) row[half] = min(task.first + warp * 16 + lane / 4 + half * 8, last);
  const QueryScores rows[2] = {{s, lines, nullptr, place, row[0]}, {s, lines, nullptr, place, row[1]}};
  const int64_t mask[2] = {place.mask_index(s, row[0]), place.mask_index(s, row[1])};
  float sums[D / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};

  const int begin = seen_first.begin / side;
  const int end = seen_first.begin < seen_last.end ? (seen_last.end + side - 1) / side : begin;
  load_tile<D, side>(query_tile, static_cast<const bf16*>(p.q) + place.q_index(s, task.first), s.q_stride,
                     place.queries - task.first, head_dim, whole);
  if (begin < end) load_keys(begin);
  commit_copies();
  for (int tile = begin; tile < end; ++tile) {
    if (tile + 1 < end) load_keys(tile + 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const int first_key = tile * side;
    float score[8][4] = {};
    multiply_transposed<D>(score, shared_address(query_tile + warp * 16 * row_bytes<D>),
                           shared_address(stage(tile)));
    finish_scores(rows, first_key, seen_last.begin <= first_key && first_key + side <= seen_first.end, score);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        largest = fmaxf(largest, fmaxf(score[n][half * 2], score[n][half * 2 + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
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
    if (dropout.threshold != 0) {
      const KeptKeys kept(dropout, mask, first_key);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) score[n][i] = kept.at(n, i) ? score[n][i] * dropout.scale : 0.0f;
      }
    }
    multiply<D>(sums, score, shared_address(stage(tile) + side * row_bytes<D>));
    __syncthreads();  // the stage may be written again
  }
  wait_copies<0>();

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = sum[half];
    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    const int query = task.first + warp * 16 + lane / 4 + half * 8;
    if (query > last) continue;
    const int64_t index = place.row_index(s, query);
    store_row<D>(out + index * s.head_dim, sums, half, total == 0.0f ? 0.0f : 1.0f / total, head_dim, whole);
    if (lane % 4 == 0) p.logsumexp[index] = maximum[half] + log2f(total);
  }
}

template <int D>
void forward(const AttentionForward& p, const BiasLines& lines) {
  const bool whole = copies_whole(p.shape, {p.q, p.k, p.v, p.out});
  launch(attention_forward_kernel<D>, attention_grid(p.shape.q_sequences, p.shape.num_heads, side),
         dim3(attention_threads), shared_bytes<D>, p, lines, whole);
}

}  // namespace

void attention_forward(const AttentionForward& p) {
  const DistanceScratch distances(p.shape);
  if (on_tensor_cores(p.shape)) {
    with_head_dim(p.shape.head_dim, [&]<int D>() { forward<D>(p, distances.lines); });
  } else {
    plain_attention_forward(p, distances.lines);
  }
  if (p.weights != nullptr) write_attention_weights(p, distances.lines);
}

}  // namespace dragoman::cuda
