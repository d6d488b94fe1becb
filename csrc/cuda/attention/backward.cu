// attention, backward: bfloat16 heads of up to 128 features on tensor cores. Two kernels, so that every
// output has one owner: dq by tiles of queries, then dk and dv by tiles of keys. Both compute the weights
// anew. The other cases are in plain_backward.cu.
#include "cuda/attention/attention.h"
#include "cuda/attention/mma_tile.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

constexpr int side = mma_side;

// -- dq --

// Shared memory beyond the tiles, for the gradient of a relative bias: a tile of scores' gradients, sums of
// its diagonals and of buckets.
inline int64_t bias_floats(const AttentionBackward& p) {
  return p.dbias == nullptr ? 0 : side * (side + 1) + 2 * side + p.shape.num_buckets;
}

// delta = dout . out of a tile's rows, two threads for each. Also kept for dk and dv.
__device__ void make_delta(const AttentionBackward& p, const Place& place, const Task& task, float* delta,
                           float (&tile_delta)[side]) {
  const int row = static_cast<int>(threadIdx.x) / 2, query = task.first + row;
  const int64_t index = place.row_index(p.shape, min(query, place.queries - 1)), d_end = p.shape.head_dim;
  const bf16* const out = static_cast<const bf16*>(p.out) + index * d_end;
  const bf16* const dout = static_cast<const bf16*>(p.dout) + index * d_end;
  float sum = 0.0f;
  for (int64_t d = threadIdx.x % 2 * 8; d < d_end; d += 16) {
    float x[8], y[8];
    load8(out + d, d_end - d, x);
    load8(dout + d, d_end - d, y);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += x[i] * y[i];
  }
  sum += __shfl_xor_sync(~0u, sum, 1);
  if (threadIdx.x % 2 != 0) return;
  tile_delta[row] = sum;
  if (query < place.queries) delta[index] = sum;
}

// A tile of queries, over the key tiles that some of them sees.
template <int D>
__global__ void __launch_bounds__(attention_threads, 2)
    attention_dq_kernel(AttentionBackward p, Distances distances, float* delta, float* dbias, bool whole) {
  DYNAMIC_SHARED(shared);
  __shared__ float tile_delta[side];
  const AttentionShape& s = p.shape;
  bf16* const dq = static_cast<bf16*>(p.dq);
  zero_tail(dq, s.q_sequences.rows, s.num_heads * s.head_dim);
  const Task task(s.q_sequences, s.num_heads, side);
  if (task.empty(s.q_sequences)) {
    if (dbias != nullptr) write_bias_partial(s, task, side, nullptr, dbias);
    return;
  }
  constexpr int bytes = QueryTile<D>::bytes;
  distances.key_products = nullptr;  // such calls are plain: the compiler drops what reads them
  const QueryTile<D> tile(s, distances, task, shared + 2 * bytes, whole);
  const Place& place = tile.place;
  float* const dscores = reinterpret_cast<float*>(shared + 6 * bytes);  // (side, side + 1)
  float *const diagonal = dscores + side * (side + 1), *const buckets = diagonal + 2 * side;
  if (dbias != nullptr) {
    for (int64_t i = threadIdx.x; i < s.num_buckets; i += attention_threads) buckets[i] = 0.0f;
  }
  tile.load_queries(s, shared, static_cast<const bf16*>(p.q) + place.q_index(s, tile.first), s.q_stride);
  tile.load_queries(s, shared + bytes,
                    static_cast<const bf16*>(p.dout) + place.row_index(s, tile.first) * s.head_dim,
                    s.num_heads * s.head_dim);
  make_delta(p, place, task, delta, tile_delta);
  __syncthreads();

  const int warp_rows = warp_of_thread() * 16 * row_bytes<D>;
  float logsumexp[2], row_delta[2];
  for (int half = 0; half < 2; ++half) {
    row_delta[half] = tile_delta[tile.query(half) - tile.first];
    logsumexp[half] = tile.query(half) <= tile.last
                          ? used_logsumexp(p.logsumexp[place.row_index(s, tile.query(half))])
                          : INFINITY;
  }
  float sums[D / 8][4] = {};
  tile.each_step(s, p.k, p.v, [&](int first_key, SharedAddress keys, SharedAddress values) {
    float score[8][4] = {}, dscore[8][4] = {};
    multiply_transposed<D>(score, shared_address(shared + warp_rows), keys);
    multiply_transposed<D>(dscore, shared_address(shared + bytes + warp_rows), values);
    tile.finish_scores(first_key, score);
    tile.drop(first_key, dscore);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float softmax = exp2_fast(score[n][i] - logsumexp[i / 2]);
        dscore[n][i] = varies(tile.rows[i / 2].keys) ? softmax * (dscore[n][i] - row_delta[i / 2]) : 0.0f;
      }
    }
    multiply<D>(sums, dscore, keys);
    if (dbias == nullptr) return;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = tile.query(i / 2) - tile.first, key = n * 8 + lane_of_thread() % 4 * 2 + i % 2;
        dscores[query * (side + 1) + key] = rounded<bf16>(dscore[n][i]);
      }
    }
    add_to_buckets<side>(dscores, first_key - place.first_position - tile.first, distances, s.num_buckets,
                         diagonal, buckets);
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (tile.query(half) > tile.last) continue;
    store_row<D>(dq + place.row_index(s, tile.query(half)) * s.head_dim, sums, half, s.scale,
                 static_cast<int>(s.head_dim), whole);
  }
  if (dbias != nullptr) write_bias_partial(s, task, side, buckets, dbias);
}

// -- dk and dv --

constexpr int step = 32;  // queries: the sums of two outputs take many registers

// What a step needs of a query beside its tiles.
struct QueryState {
  float logsumexp, delta;
  Span keys;
};

template <int D>
constexpr int dkv_stage_bytes = step * (2 * row_bytes<D> + static_cast<int>(sizeof(QueryState)));
template <int D>
constexpr int dkv_bytes = 2 * side * row_bytes<D> + 2 * dkv_stage_bytes<D>;

// The dropout mask of a tile of a warp's 16 keys and a step's queries. A lane computes the two blocks of one
// query, and gets those of its columns from the other lanes.
struct KeptQueries {
  uint32_t word[step / 8][2];  // of the queries n * 8 + lane % 4 * 2 and + 1

  // `index` is the mask's of query `lane` and the warp's first key.
  __device__ KeptQueries(const Dropout& dropout, int64_t index) {
    const int lane = lane_of_thread();
    const bool draws = dropout.threshold != 0;
    const uint32_t mine = draws ? kept_bits(dropout, index) | kept_bits(dropout, index + 8) << 8 : ~0u;
#pragma unroll
    for (int n = 0; n < step / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        word[n][i] = draws ? __shfl_sync(~0u, mine, n * 8 + lane % 4 * 2 + i) : ~0u;
      }
    }
  }

  // Of accumulator c[n][i].
  __device__ bool at(int n, int i) const { return word[n][i % 2] >> (i / 2 * 8 + lane_of_thread() / 4) & 1; }
};

// One tile of keys, 16 for each warp, over the query tiles that see some of them, for every query head that
// reads the keys' head. The tiles of scores are transposed: their rows are keys.
template <int D>
__global__ void __launch_bounds__(attention_threads, D <= 32 ? 3 : 2)
    attention_dkv_kernel(AttentionBackward p, Distances distances, const float* delta, bool whole) {
  DYNAMIC_SHARED(shared);
  constexpr int N = step / 8;
  constexpr int tile_bytes = side * row_bytes<D>, step_bytes = step * row_bytes<D>;
  const AttentionShape& s = p.shape;
  bf16 *const dk = static_cast<bf16*>(p.dk), *const dv = static_cast<bf16*>(p.dv);
  zero_tail(dk, s.k_sequences.rows, s.kv_heads * s.head_dim);
  zero_tail(dv, s.k_sequences.rows, s.kv_heads * s.head_dim);
  const Task task(s.k_sequences, s.kv_heads, side);
  if (task.empty(s.k_sequences)) return;
  const int group = static_cast<int>(s.num_heads / s.kv_heads), first_head = task.head * group;
  const Place place(s, task.sequence, first_head);
  const Dropout dropout = at_its_step(s.dropout);
  const int head_dim = static_cast<int>(s.head_dim);
  const int lane = lane_of_thread(), warp = warp_of_thread();
  const Span queries = place.queries_of(s, task.first, min(task.first + side, place.keys));
  const int first_tile = queries.begin / step;
  const int tiles = queries.begin < queries.end ? (queries.end + step - 1) / step - first_tile : 0;

  // Step i takes tile first_tile + i % tiles of head first_head + i / tiles.
  const auto stage = [&](int i) { return shared + 2 * tile_bytes + i % 2 * dkv_stage_bytes<D>; };
  const auto states = [&](int i) { return reinterpret_cast<QueryState*>(stage(i) + 2 * step_bytes); };
  const auto place_of = [&](int i) {
    Place at = place;
    at.head = first_head + i / tiles;
    return at;
  };
  const auto load_queries = [&](int i) {
    const int first = (first_tile + i % tiles) * step;
    const Place at = place_of(i);
    load_tile<D, step>(stage(i), static_cast<const bf16*>(p.q) + at.q_index(s, first), s.q_stride,
                       at.queries - first, head_dim, whole);
    load_tile<D, step>(stage(i) + step_bytes,
                       static_cast<const bf16*>(p.dout) + at.row_index(s, first) * s.head_dim,
                       s.num_heads * s.head_dim, at.queries - first, head_dim, whole);
    const int row = static_cast<int>(threadIdx.x), query = first + row;
    if (row >= step) return;
    states(i)[row] = {INFINITY, 0.0f, {0, 0}};
    if (query < at.queries) {
      const int64_t index = at.row_index(s, query);
      states(i)[row] = {used_logsumexp(p.logsumexp[index]), delta[index], at.keys_of(s, query)};
    }
  };
  load_tile<D, side>(shared, static_cast<const bf16*>(p.k) + place.k_index(s, task.first), s.k_stride,
                     place.keys - task.first, head_dim, whole);
  load_tile<D, side>(shared + tile_bytes, static_cast<const bf16*>(p.v) + place.v_index(s, task.first),
                     s.v_stride, place.keys - task.first, head_dim, whole);
  const int steps = tiles * group;
  if (steps > 0) load_queries(0);
  commit_copies();

  const int warp_rows = warp * 16 * row_bytes<D>;
  const float factor = s.scale * log2_e;
  float dk_sums[D / 8][4] = {}, dv_sums[D / 8][4] = {};
  for (int i_step = 0; i_step < steps; ++i_step) {
    if (i_step + 1 < steps) load_queries(i_step + 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const Place at = place_of(i_step);
    const int first = (first_tile + i_step % tiles) * step;
    float weight[N][4] = {}, dscore[N][4] = {};
    multiply_transposed<D>(weight, shared_address(shared + warp_rows), shared_address(stage(i_step)));
    multiply_transposed<D>(dscore, shared_address(shared + tile_bytes + warp_rows),
                           shared_address(stage(i_step) + step_bytes));
    const float* const line = distances.lines == nullptr ? nullptr
                                                         : distances.lines + at.head * distances.size -
                                                               at.first_position - first - distances.lowest;
    const KeptQueries kept(dropout, at.mask_index(s, first + lane) + task.first + warp * 16);
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = n * 8 + lane % 4 * 2 + i % 2;
        const int key = task.first + warp * 16 + lane / 4 + i / 2 * 8;
        const QueryState state = states(i_step)[column];
        const bool visible = key >= state.keys.begin && key < state.keys.end;
        float score = weight[n][i] * factor;
        if (line != nullptr && visible) score += line[key - column];
        const float softmax = visible ? exp2_fast(score - state.logsumexp) : 0.0f;
        const float keep = kept.at(n, i) ? dropout.scale : 0.0f;
        weight[n][i] = softmax * keep;
        dscore[n][i] = varies(state.keys) ? softmax * (dscore[n][i] * keep - state.delta) : 0.0f;
      }
    }
    multiply<D>(dv_sums, weight, shared_address(stage(i_step) + step_bytes));
    multiply<D>(dk_sums, dscore, shared_address(stage(i_step)));
    __syncthreads();  // the stage may be written again
  }
  wait_copies<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int key = task.first + warp * 16 + lane / 4 + half * 8;
    if (key >= place.keys) continue;
    const int64_t index = ((place.k_begin + key) * s.kv_heads + place.kv_head) * s.head_dim;
    store_row<D>(dk + index, dk_sums, half, s.scale, head_dim, whole);
    store_row<D>(dv + index, dv_sums, half, 1.0f, head_dim, whole);
  }
}

template <int D>
void backward(const AttentionBackward& p, const Distances& distances) {
  const AttentionShape& s = p.shape;
  const bool whole = copies_whole(s, {p.dout, p.q, p.k, p.v, p.dq, p.dk, p.dv});
  const Scratch delta(s.q_sequences.rows.capacity * s.num_heads * int64_t{sizeof(float)});
  const int64_t partials = tiles_of(s.q_sequences, side) * s.q_sequences.num_sequences;
  const int64_t table = s.num_buckets * s.num_heads;
  const Scratch partial(p.dbias == nullptr ? 0 : partials * table * int64_t{sizeof(float)});
  launch_tiles(attention_dq_kernel<D>, s.q_sequences, s.num_heads, side,
               6 * QueryTile<D>::bytes + static_cast<size_t>(bias_floats(p)) * sizeof(float), p, distances,
               delta.as<float>(), p.dbias == nullptr ? nullptr : partial.as<float>(), whole);
  launch_tiles(attention_dkv_kernel<D>, s.k_sequences, s.kv_heads, side, dkv_bytes<D>, p, distances,
               delta.as<float>(), whole);
  if (p.dbias != nullptr) {
    add_chunks(partial.as<float>(), partials, table, table, p.accumulate_bias, p.dbias);
  }
}

}  // namespace

void attention_backward(const AttentionBackward& p) {
  const DistanceScratch scratch(p.shape, p.q);
  if (on_tensor_cores(p.shape)) {
    with_head_dim(p.shape.head_dim, [&]<int D>() { backward<D>(p, scratch.distances); });
  } else {
    plain_attention_backward(p, scratch.distances);
  }
}

}  // namespace dragoman::cuda
