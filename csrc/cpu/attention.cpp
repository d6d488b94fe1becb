// attention, forward.
#include "core/storage.h"
#include "cpu/attention_tile.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

namespace {

constexpr int64_t row_block = 128;  // rows of a task

// Working memory of one task; width = round_up(head_dim, padding).
struct Buffers {
  float* query;  // (row_block, width) q * scale
  float* key;    // (head_dim, key_block) one key block, transposed
  float* value;  // (key_block, width) the same block's values
  float* score;  // (tile_rows, key_block) scores, then exp(score - most), dropout applied
  float* out;    // (row_block, width) sum of exp(score - most) * value
  float* most;   // (row_block,) largest score so far
  float* sum;    // (row_block,) sum of exp(score - most)

  Buffers(float* memory, int64_t head_dim, int64_t width) {
    Arena arena{memory};
    query = arena.take(row_block * width);
    key = arena.take(head_dim * key_block);
    value = arena.take(key_block * width);
    score = arena.take(tile_rows * key_block);
    out = arena.take(row_block * width);
    most = arena.take(row_block);
    sum = arena.take(row_block);
  }
  static int64_t size(int64_t head_dim, int64_t width) {
    return (2 * row_block + key_block) * width + (head_dim + tile_rows) * key_block + 2 * row_block;
  }
};

// One row of scores becomes exp(score - most), dropout applied; 0 for keys the row does not see. `sum` grows,
// and a new maximum rescales it and out (width,).
void softmax_step(const AttentionShape& shape, const Row& row, int64_t first_key, int64_t columns,
                  int64_t width, float* score, float* most, float* sum, float* out) {
  Vec high = broadcast(*most);
  for (int64_t j = 0; j < columns; j += lanes) {
    const Vec visible = inside(row.keys, first_key + j) ? load(score + j) : broadcast(-infinity);
    store(score + j, visible);
    high = vmax(high, visible);
  }
  const float new_most = max_lanes(high);
  const float shift = new_most == -infinity ? 0.0f : new_most;
  const uint64_t kept = kept_keys(shape, row, first_key);
  Vec total{};
  for (int64_t j = 0; j < columns; j += lanes) {
    const Vec weight = vexp(load(score + j) - shift);
    store(score + j, weight * factors_of(kept >> j, shape.dropout.scale));
    total += weight;
  }
  if (new_most != *most && *most != -infinity) {
    const Vec shrink = vexp(broadcast(*most - shift));
    for (int64_t d = 0; d < width; d += lanes) store(out + d, load(out + d) * shrink);
    *sum *= shrink[0];
  }
  *most = new_most;
  *sum += sum_lanes(total);
}

// weights (num_heads, queries, keys) of the sequence: the softmax, in a second pass over the keys.
template <class T>
void write_weights(const AttentionForward& p, const Group& group, const Row* rows, int64_t count,
                   const Buffers& b, float* weights) {
  const AttentionShape& s = p.shape;
  const int64_t width = round_up(s.head_dim, padding);
  const auto weights_row = [&](Row row) {
    return weights + (row.head * group.queries + row.query - group.q_begin) * group.keys;
  };
  for (int64_t i = 0; i < count; ++i) zero(weights_row(rows[i]), group.keys);
  for (int64_t first_key = 0; first_key < group.keys; first_key += key_block) {
    const int64_t keys = min_of(key_block, group.keys - first_key);
    pack_transposed(static_cast<const T*>(p.k) + group.k_index(first_key), s.k_stride, keys, s.head_dim,
                    b.key);
    for (int64_t i = 0; i < count; i += tile_rows) {
      const int64_t tile = min_of(tile_rows, count - i);
      const int64_t seen = keys_seen(rows + i, tile, first_key);
      if (seen == 0) continue;
      product(tile, round_up(seen, padding), s.head_dim, {b.query + i * width, width, 1}, b.key, key_block,
              b.score, key_block, false);
      for (int64_t r = 0; r < tile; ++r) {
        const Row& row = rows[i + r];
        const float logsumexp = p.logsumexp[group.lse_index(row)];
        each_vector(seen, [&](int64_t j, auto part) {
          const Vec weight = vexp(load(b.score + r * key_block + j) - logsumexp);
          store(weights_row(row) + first_key + j, inside(row.keys, first_key + j) ? weight : Vec{}, part);
        });
      }
    }
  }
}

// Rows first .. first + row_block - 1 of a group, in three passes: pack the queries; stream over the key
// blocks that some row sees, a tile of rows at a time; divide.
template <class T>
void forward_rows(const AttentionForward& p, const Group& group, int64_t first, const Buffers& b,
                  float* weights) {
  const AttentionShape& s = p.shape;
  const int64_t width = round_up(s.head_dim, padding);
  const int64_t count = min_of(row_block, group.rows() - first);
  Row rows[row_block];
  for (int64_t i = 0; i < count; ++i) {
    rows[i] = group.row(first + i);
    pack_row(static_cast<const T*>(p.q) + group.q_index(rows[i]), s.head_dim, s.scale, b.query + i * width);
    b.most[i] = -infinity;
    b.sum[i] = 0.0f;
  }
  const int64_t padded = round_up(count, tile_rows);
  zero(b.query + count * width, (padded - count) * width);
  zero(b.out, padded * width);

  const int64_t first_block = rows[0].keys.begin / key_block * key_block;
  for (int64_t first_key = first_block; first_key < rows[count - 1].keys.end; first_key += key_block) {
    const int64_t keys = min_of(key_block, group.keys - first_key);
    pack_transposed(static_cast<const T*>(p.k) + group.k_index(first_key), s.k_stride, keys, s.head_dim,
                    b.key);
    for (int64_t j = 0; j < keys; ++j) {
      pack_row(static_cast<const T*>(p.v) + group.v_index(first_key + j), s.head_dim, 1.0f,
               b.value + j * width);
    }
    for (int64_t i = 0; i < count; i += tile_rows) {
      const int64_t tile = min_of(tile_rows, count - i);
      const int64_t seen = keys_seen(rows + i, tile, first_key);
      if (seen == 0) continue;
      const int64_t columns = round_up(seen, padding);
      product(tile, columns, s.head_dim, {b.query + i * width, width, 1}, b.key, key_block, b.score,
              key_block, false);
      for (int64_t r = i; r < i + tile; ++r) {
        softmax_step(s, rows[r], first_key, columns, width, b.score + (r - i) * key_block, b.most + r,
                     b.sum + r, b.out + r * width);
      }
      product(tile, width, seen, {b.score, key_block, 1}, b.value, width, b.out + i * width, width, true);
    }
  }

  for (int64_t i = 0; i < count; ++i) {
    const float inverse = b.sum[i] == 0.0f ? 0.0f : 1.0f / b.sum[i];
    T* out_row = static_cast<T*>(p.out) + group.out_index(rows[i]);
    each_vector(s.head_dim, [&](int64_t d, auto part) {
      store(out_row + d, load(b.out + i * width + d) * inverse, part);
    });
    p.logsumexp[group.lse_index(rows[i])] = b.most[i] + __builtin_logf(b.sum[i]);
  }
  if (weights != nullptr) write_weights<T>(p, group, rows, count, b, weights);
}

// One task per sequence, key head and block of rows.
template <class T>
void forward(const AttentionForward& p) {
  const AttentionShape& s = p.shape;
  const int64_t sequences = s.q_sequences.num_sequences;
  const int64_t width = round_up(s.head_dim, padding);
  const int64_t most_rows = s.q_sequences.max_length * (s.num_heads / s.kv_heads);
  const int64_t blocks = (most_rows + row_block - 1) / row_block;

  const int64_t size = Buffers::size(s.head_dim, width);
  const int64_t buffers_bytes = max_threads() * size * static_cast<int64_t>(sizeof(float));
  const Scratch scratch(buffers_bytes + sequences * static_cast<int64_t>(sizeof(int64_t)));
  // (num_sequences,) first element of each sequence's weights
  int64_t* starts = reinterpret_cast<int64_t*>(static_cast<char*>(scratch.data) + buffers_bytes);
  for (int64_t i = 0, start = 0; i < sequences; ++i) {
    starts[i] = start;
    start += s.num_heads * s.q_sequences.lengths[i] * s.k_sequences.lengths[i];
  }
  parallel_for(sequences * blocks * s.kv_heads, 1, [&](int64_t begin, int64_t end) {
    const Buffers buffers(static_cast<float*>(scratch.data) + thread_index() * size, s.head_dim, width);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t sequence = task / s.kv_heads / blocks;
      const Group group(s, sequence, task % s.kv_heads);
      const int64_t first = task / s.kv_heads % blocks * row_block;
      if (first >= group.rows()) continue;
      forward_rows<T>(p, group, first, buffers,
                      p.weights == nullptr ? nullptr : p.weights + starts[sequence]);
    }
  });

  zero_tail(static_cast<T*>(p.out), s.q_sequences, s.num_heads * s.head_dim);
  zero_tail(p.logsumexp, s.q_sequences, s.num_heads);
}

}  // namespace

void attention_forward(const AttentionForward& p) {
  with_dtype(p.shape.dtype, [&](auto element) { forward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
