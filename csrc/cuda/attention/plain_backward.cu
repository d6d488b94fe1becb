// attention, backward, without tensor cores: float32, wide heads, relative keys and values, capped scores.
#include "cuda/attention/plain_tile.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

// Scratch memory of a call; null where there is no such table.
struct PlainScratch {
  float* delta;           // (q_capacity, num_heads) dout . out
  float* value_products;  // (q_capacity, num_heads, 2 * clip + 1) dout with relative_values
  float* key_sums;        // (q_capacity, num_heads, 2 * clip + 1) the scores' gradients by distance
  float* value_sums;      // (q_capacity, num_heads, 2 * clip + 1) the weights by distance
  float* dbias;           // partial sums
};

// A tile of queries against a tile of keys. `weight` gets the softmax with dropout, `dscore` the scores'
// gradients, both (32, 32) and rounded; complete after the next barrier.
template <class T>
__device__ void gradient_tiles(const AttentionBackward& p, const Distances& distances,
                               const PlainScratch& scratch, const Dropout& dropout, const Place& place,
                               int first, int first_key, float* weight, float* dscore, float* left,
                               float* right) {
  const AttentionShape& s = p.shape;
  const int count = min(plain_side, place.queries - first), keys = min(plain_side, place.keys - first_key);
  multiply_rows<T>(weight, {static_cast<const T*>(p.q) + place.q_index(s, first), s.q_stride, count},
                   {static_cast<const T*>(p.k) + place.k_index(s, first_key), s.k_stride, keys}, s.head_dim,
                   left, right);
  multiply_rows<T>(dscore,
                   {static_cast<const T*>(p.dout) + place.row_index(s, first) * s.head_dim,
                    s.num_heads * s.head_dim, count},
                   {static_cast<const T*>(p.v) + place.v_index(s, first_key), s.v_stride, keys}, s.head_dim,
                   left, right);
  __syncthreads();
  const int row = shared_row(), part = shared_part(), query = first + min(row, count - 1);
  const int64_t index = place.row_index(s, query);
  const QueryScores scores(s, distances, place, query);
  const float logsumexp = row < count ? used_logsumexp(p.logsumexp[index]) : INFINITY;
  const float delta = scratch.delta[index];
  const float* const by_distance =
      scratch.value_products == nullptr ? nullptr : scratch.value_products + index * (2 * s.clip + 1);
  float factor[8];
  keep_factors(dropout, place.mask_index(s, query) + first_key + part * 8, factor);
  for (int j = 0; j < 8; ++j) {
    const int at = row * plain_pitch + part * 8 + j, key = first_key + part * 8 + j;
    const bool visible = scores.sees(key);
    const float score = visible ? capped(s, scores.at(key, weight[at])) : 0.0f;
    const float softmax = visible ? exp2_fast(score - logsumexp) : 0.0f;
    float dweight = dscore[at];
    if (by_distance != nullptr) dweight += by_distance[relative_row(s.clip, key - scores.position)];
    weight[at] = rounded<T>(softmax * factor[j]);
    const float gradient = softmax * (dweight * factor[j] - delta) * cap_slope(s, score);
    dscore[at] = varies(scores.keys) ? rounded<T>(gradient) : 0.0f;
  }
}

// One tile of queries over the key tiles that some of them sees. sums (32, width) holds dq / scale, then the
// scores' gradients and the weights by distance where there are such tables.
template <class T>
__global__ void __launch_bounds__(attention_threads, 3)
    plain_dq_kernel(AttentionBackward p, Distances distances, PlainScratch scratch, int64_t width) {
  DYNAMIC_SHARED(shared);
  const AttentionShape& s = p.shape;
  T* const dq = static_cast<T*>(p.dq);
  zero_tail(dq, s.q_sequences.rows, s.num_heads * s.head_dim);
  const Task task(s.q_sequences, s.num_heads, plain_side);
  if (task.empty(s.q_sequences)) {
    if (scratch.dbias != nullptr) write_bias_partial(s, task, plain_side, nullptr, scratch.dbias);
    return;
  }
  const PlainQueries own(s, task);
  const Place& place = own.place;
  float* const weight = reinterpret_cast<float*>(shared);
  float *const dscore = weight + plain_tile, *const left = dscore + plain_tile;
  float *const right = left + plain_tile, *const sums = right + plain_tile;
  float *const diagonal = sums + plain_side * width, *const buckets = diagonal + 2 * plain_side;
  for (int64_t i = threadIdx.x; i < plain_side * width; i += attention_threads) sums[i] = 0.0f;
  if (scratch.dbias != nullptr) {
    for (int64_t i = threadIdx.x; i < s.num_buckets; i += attention_threads) buckets[i] = 0.0f;
  }

  const int row = own.row, part = own.part;
  const int64_t index = place.row_index(s, own.query);
  float delta = 0.0f;
  for (int64_t d = part; d < s.head_dim; d += 4) {
    delta += to_float(static_cast<const T*>(p.out)[index * s.head_dim + d]) *
             to_float(static_cast<const T*>(p.dout)[index * s.head_dim + d]);
  }
  delta = sum_of_four(delta);
  if (part == 0 && row < own.count) scratch.delta[index] = delta;

  const int64_t relative = 2 * s.clip + 1;
  const int64_t position = place.first_position + own.query;
  float* const key_sums = sums + row * width + s.head_dim;
  float* const value_sums = key_sums + (s.relative_keys == nullptr ? 0 : relative);
  for (int first_key = own.keys.begin; first_key < own.keys.end; first_key += plain_side) {
    gradient_tiles<T>(p, distances, scratch, own.dropout, place, task.first, first_key, weight, dscore, left,
                      right);
    __syncwarp();
    if (s.relative_keys != nullptr) {
      add_by_distance(key_sums, dscore + row * plain_pitch, s.clip, first_key - position);
    }
    if (s.relative_values != nullptr) {
      add_by_distance(value_sums, weight + row * plain_pitch, s.clip, first_key - position);
    }
    if (scratch.dbias != nullptr) {
      add_to_buckets<plain_side>(dscore, first_key - place.first_position - task.first, distances,
                                 s.num_buckets, diagonal, buckets);
    }
    add_rows<T>(
        sums, width, [&](int i, int k) { return dscore[i * plain_pitch + k]; },
        {static_cast<const T*>(p.k) + place.k_index(s, first_key), s.k_stride,
         min(plain_side, place.keys - first_key)},
        s.head_dim, right);
  }
  __syncthreads();
  store_plain(s, own, sums, width, s.relative_keys, [&](int64_t) { return s.scale; }, dq);
  if (row < own.count) {
    for (int64_t a = part; a < relative; a += 4) {
      if (s.relative_keys != nullptr) scratch.key_sums[index * relative + a] = key_sums[a];
      if (s.relative_values != nullptr) scratch.value_sums[index * relative + a] = value_sums[a];
    }
  }
  if (scratch.dbias != nullptr) write_bias_partial(s, task, plain_side, buckets, scratch.dbias);
}

// One tile of keys over the query tiles that see some of them, for every query head that reads the keys'
// head.
template <class T>
__global__ void __launch_bounds__(attention_threads)
    plain_dkv_kernel(AttentionBackward p, Distances distances, PlainScratch scratch, int64_t width) {
  DYNAMIC_SHARED(shared);
  const AttentionShape& s = p.shape;
  T *const dk = static_cast<T*>(p.dk), *const dv = static_cast<T*>(p.dv);
  zero_tail(dk, s.k_sequences.rows, s.kv_heads * s.head_dim);
  zero_tail(dv, s.k_sequences.rows, s.kv_heads * s.head_dim);
  const Task task(s.k_sequences, s.kv_heads, plain_side);
  if (task.empty(s.k_sequences)) return;
  const int group = static_cast<int>(s.num_heads / s.kv_heads);
  const Dropout dropout = at_its_step(s.dropout);
  float* const weight = reinterpret_cast<float*>(shared);
  float *const dscore = weight + plain_tile, *const left = dscore + plain_tile;
  float *const right = left + plain_tile, *const dk_sums = right + plain_tile;
  float* const dv_sums = dk_sums + plain_side * width;
  for (int64_t i = threadIdx.x; i < 2 * plain_side * width; i += attention_threads) dk_sums[i] = 0.0f;
  const Place keys(s, task.sequence, task.head * group);
  const int count = min(plain_side, keys.keys - task.first);
  const Span queries = keys.queries_of(s, task.first, task.first + count);
  for (int head = 0; head < group; ++head) {
    const Place place(s, task.sequence, task.head * group + head);
    for (int first = queries.begin / plain_side * plain_side; first < queries.end; first += plain_side) {
      gradient_tiles<T>(p, distances, scratch, dropout, place, first, task.first, weight, dscore, left,
                        right);
      const int rows = min(plain_side, place.queries - first);
      add_rows<T>(
          dk_sums, width, [&](int i, int k) { return dscore[k * plain_pitch + i]; },
          {static_cast<const T*>(p.q) + place.q_index(s, first), s.q_stride, rows}, s.head_dim, right);
      add_rows<T>(
          dv_sums, width, [&](int i, int k) { return weight[k * plain_pitch + i]; },
          {static_cast<const T*>(p.dout) + place.row_index(s, first) * s.head_dim, s.num_heads * s.head_dim,
           rows},
          s.head_dim, right);
    }
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < count * s.head_dim; i += attention_threads) {
    const int64_t r = i / s.head_dim, d = i % s.head_dim;
    const int64_t to = ((keys.k_begin + task.first + r) * s.kv_heads + task.head) * s.head_dim + d;
    dk[to] = from_float<T>(dk_sums[r * width + d] * s.scale);
    dv[to] = from_float<T>(dv_sums[r * width + d]);
  }
}

}  // namespace

void plain_attention_backward(const AttentionBackward& p, const Distances& distances) {
  const AttentionShape& s = p.shape;
  const int64_t rows = s.q_sequences.rows.capacity * s.num_heads, relative = 2 * s.clip + 1;
  const int64_t keys = s.relative_keys == nullptr ? 0 : rows * relative;
  const int64_t values = s.relative_values == nullptr ? 0 : rows * relative;
  const int64_t partials = tiles_of(s.q_sequences, plain_side) * s.q_sequences.num_sequences;
  const int64_t table = p.dbias == nullptr ? 0 : s.num_buckets * s.num_heads;
  const Scratch memory((rows + keys + 2 * values + partials * table) * int64_t{sizeof(float)});
  PlainScratch scratch = {};
  scratch.delta = memory.as<float>();
  float* next = scratch.delta + rows;
  const auto take = [&](int64_t size) {
    float* const part = size == 0 ? nullptr : next;
    next += size;
    return part;
  };
  scratch.value_products = take(values);
  scratch.key_sums = take(keys);
  scratch.value_sums = take(values);
  scratch.dbias = take(partials * table);
  if (values != 0) {
    multiply_by_table(s, p.dout, s.num_heads * s.head_dim, s.relative_values, scratch.value_products);
  }

  const int64_t dkv_width = plain_width(s.head_dim);
  const int64_t dq_width = plain_width(s.head_dim + (s.relative_keys == nullptr ? 0 : relative) +
                                       (s.relative_values == nullptr ? 0 : relative));
  with_dtype(s.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t bias_floats = p.dbias == nullptr ? 0 : 2 * plain_side + s.num_buckets;
    launch_tiles(plain_dq_kernel<T>, s.q_sequences, s.num_heads, plain_side,
                 plain_shared(4, dq_width, bias_floats), p, distances, scratch, dq_width);
    launch_tiles(plain_dkv_kernel<T>, s.k_sequences, s.kv_heads, plain_side,
                 plain_shared(4, 2 * dkv_width, 0), p, distances, scratch, dkv_width);
  });
  if (p.dbias != nullptr) {
    add_chunks(scratch.dbias, partials, table, table, p.accumulate_bias, p.dbias);
  }
  if (p.drelative_keys != nullptr) {
    relative_table_gradient(s, scratch.key_sums, p.q, s.q_stride, s.scale, p.accumulate_keys,
                            p.drelative_keys);
  }
  if (p.drelative_values != nullptr) {
    relative_table_gradient(s, scratch.value_sums, p.dout, s.num_heads * s.head_dim, 1.0f,
                            p.accumulate_values, p.drelative_values);
  }
}

}  // namespace dragoman::cuda
