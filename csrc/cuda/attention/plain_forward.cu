// attention, forward, without tensor cores: float32, wide heads, relative keys and values, capped scores; and
// the weights.
#include "cuda/attention/plain_tile.h"

namespace dragoman::cuda {

namespace {

// One tile of queries over the key tiles that some of them sees. sums (32, width) holds out times the
// softmax's sum, and with relative values the weights by distance beside it.
template <class T>
__global__ void __launch_bounds__(attention_threads)
    plain_forward_kernel(AttentionForward p, Distances distances, int64_t width) {
  DYNAMIC_SHARED(shared);
  __shared__ float inverse[plain_side];
  const AttentionShape& s = p.shape;
  T* const out = static_cast<T*>(p.out);
  zero_tail(out, s.q_sequences.rows, s.num_heads * s.head_dim);
  zero_tail(p.logsumexp, s.q_sequences.rows, s.num_heads);
  const Task task(s.q_sequences, s.num_heads, plain_side);
  if (task.empty(s.q_sequences)) return;
  const PlainQueries own(s, task);
  const Place& place = own.place;
  const PlainRows<T> queries = {static_cast<const T*>(p.q) + place.q_index(s, task.first), s.q_stride,
                                own.count};
  float* const score = reinterpret_cast<float*>(shared);
  float *const left = score + plain_tile, *const right = left + plain_tile, *const sums = right + plain_tile;
  for (int64_t i = threadIdx.x; i < plain_side * width; i += attention_threads) sums[i] = 0.0f;

  // The thread's eight keys of a tile are one block of the mask.
  const int row = own.row, part = own.part, query = own.query;
  const QueryScores scores(s, distances, place, query);
  float* const row_sums = sums + row * width;
  float* const row_score = score + row * plain_pitch;
  float maximum = -INFINITY, sum = 0.0f;
  for (int first_key = own.keys.begin; first_key < own.keys.end; first_key += plain_side) {
    const int keys = min(plain_side, place.keys - first_key);
    multiply_rows<T>(score, queries,
                     {static_cast<const T*>(p.k) + place.k_index(s, first_key), s.k_stride, keys}, s.head_dim,
                     left, right);
    __syncthreads();
    float x[8], largest = maximum;
    for (int j = 0; j < 8; ++j) {
      const int key = first_key + part * 8 + j;
      x[j] = scores.sees(key) ? capped(s, scores.at(key, row_score[part * 8 + j])) : -INFINITY;
      largest = fmaxf(largest, x[j]);
    }
    largest = largest_of_four(largest);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    const float shrink = exp2_fast(maximum - shift);
    maximum = largest;
    sum *= shrink;
    for (int64_t d = part; d < width; d += 4) row_sums[d] *= shrink;
    float factor[8];
    keep_factors(own.dropout, place.mask_index(s, query) + first_key + part * 8, factor);
    for (int j = 0; j < 8; ++j) {
      const float weight = exp2_fast(x[j] - shift);
      sum += weight;
      row_score[part * 8 + j] = rounded<T>(weight * factor[j]);
    }
    if (s.relative_values != nullptr) {
      __syncwarp();
      add_by_distance(row_sums + s.head_dim, row_score, s.clip, first_key - scores.position);
    }
    add_rows<T>(
        sums, width, [&](int i, int k) { return score[i * plain_pitch + k]; },
        {static_cast<const T*>(p.v) + place.v_index(s, first_key), s.v_stride, keys}, s.head_dim, right);
  }

  sum = sum_of_four(sum);
  if (part == 0) {
    inverse[row] = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (row < own.count) p.logsumexp[place.row_index(s, query)] = maximum + log2f(sum);
  }
  __syncthreads();
  store_plain(s, own, sums, width, s.relative_values, [&](int64_t r) { return inverse[r]; }, out);
}

// One warp for each query and head. The weights of a sequence (num_heads, queries, keys) follow those of the
// sequences before it.
template <class T>
__global__ void __launch_bounds__(attention_threads) weights_kernel(AttentionForward p, Distances distances) {
  constexpr int warps = attention_threads / warp_size;
  const AttentionShape& s = p.shape;
  const Task task(s.q_sequences, s.num_heads, warps);
  if (task.empty(s.q_sequences)) return;
  const Place place(s, task.sequence, task.head);
  const int query = task.first + static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (query >= place.queries) return;
  int64_t start = (int64_t{place.head} * place.queries + query) * place.keys;
  for (int64_t i = 0; i < task.sequence; ++i) {
    start += s.num_heads * s.q_sequences.lengths[i] * s.k_sequences.lengths[i];
  }
  const QueryScores scores(s, distances, place, query);
  const float logsumexp = used_logsumexp(p.logsumexp[place.row_index(s, query)]);
  const T* const q = static_cast<const T*>(p.q) + place.q_index(s, query);
  for (int key = lane; key < place.keys; key += warp_size) {
    float weight = 0.0f;
    if (scores.sees(key)) {
      const T* const k = static_cast<const T*>(p.k) + place.k_index(s, key);
      float product = 0.0f;
      for (int64_t d = 0; d < s.head_dim; ++d) product += to_float(q[d]) * to_float(k[d]);
      weight = exp2_fast(capped(s, scores.at(key, product)) - logsumexp);
    }
    p.weights[start + key] = weight;
  }
}

}  // namespace

void plain_attention_forward(const AttentionForward& p, const Distances& distances) {
  const AttentionShape& s = p.shape;
  const int64_t width = plain_width(s.head_dim + (s.relative_values == nullptr ? 0 : 2 * s.clip + 1));
  with_dtype(s.dtype, [&](auto element) {
    launch_tiles(plain_forward_kernel<decltype(element)>, s.q_sequences, s.num_heads, plain_side,
                 plain_shared(3, width, 0), p, distances, width);
  });
}

void write_attention_weights(const AttentionForward& p, const Distances& distances) {
  const AttentionShape& s = p.shape;
  with_dtype(s.dtype, [&](auto element) {
    launch_tiles(weights_kernel<decltype(element)>, s.q_sequences, s.num_heads, attention_threads / warp_size,
                 0, p, distances);
  });
}

}  // namespace dragoman::cuda
