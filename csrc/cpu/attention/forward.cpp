// attention, forward.
#include "core/storage.h"
#include "cpu/attention/one_query.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

namespace {

constexpr int64_t key_block = 256;
constexpr int64_t row_block = 192;  // rows of a task: whole tiles

// Scratch memory of one task.
template <class Units>
struct Buffers {
  Arena arena;
  const DistanceTables& tables;
  Widths<Units> width;
  int64_t key_panel, value_panel;
  int64_t out_row;  // width.sums, and with relative values tables.width
  float* query;     // (row_block, width.row)
  float* key;       // panels (width.units, tile_columns) of one key block's transpose
  float* value;     // panels (key_block / elements, tile_columns) of the same block's values
  float* score;     // (tile_rows, key_block) q k^T, then exp(score - maximum) with dropout, as units
  float* out;       // (row_block, out_row) sum of exp(score - maximum) * value, then the same sum by distance
  float* maximum;   // (row_block,) largest score so far, times log2 e
  float* sum;       // (row_block, lanes) sum of exp(score - maximum)
  float* relative_query;  // (row_block, width.sums) queries in float32, for relative keys
  float* relative_score;  // (row_block, tables.width) what a relative key adds, by distance

  Buffers(float* memory, int64_t head_dim, const DistanceTables& tables)
      : arena{memory},
        tables(tables),
        width(head_dim),
        key_panel(width.units * tile_columns),
        value_panel(key_block / Units::elements * tile_columns),
        out_row(width.sums + (tables.values == nullptr ? 0 : tables.width)) {
    query = arena.take(row_block * width.row);
    key = arena.take(key_block * width.units);
    value = arena.take(key_block / Units::elements * width.panels);
    static_assert(row_block % tile_rows<Units> == 0);
    score = arena.take(tile_rows<Units> * key_block);
    out = arena.take(row_block * out_row);
    maximum = arena.take(row_block);
    sum = arena.take(row_block * lanes);
    const int64_t relative_rows = tables.keys == nullptr ? 0 : row_block;
    relative_query = Units::elements == 1 ? query : arena.take(relative_rows * width.sums);
    relative_score = arena.take(relative_rows * tables.width);
  }
};

// A row's scores of the keys from first_key on, times log2 e; -infinity where it does not see the key.
template <bool masked>
struct Scores {
  const Row& row;
  int64_t first_key;
  float factor;
  float* score;

  // Less `shift`. Scaled and shifted in one step in either case, so that a mask changes no bit of a key that
  // the row sees.
  Vec at(int64_t j, float shift = 0.0f) const {
    const Vec shifted = load(score + j) * factor - shift;
    return masked ? (inside(row.keys, first_key + j) ? shifted : broadcast(-infinity)) : shifted;
  }
};

// The maximum of the scores and of `maximum`.
template <bool masked>
float largest_score(const Scores<masked>& scores, int64_t columns, float maximum) {
  Vec high = broadcast(maximum);
  for (int64_t j = 0; j < columns; j += lanes) high = vmax(high, scores.at(j));
  return max_lanes(high);
}

// Replaces scores by exp(score - maximum), with dropout; 0 for keys that the row does not see. First scales
// `sum` and out (width,) from the maximum `before` to the new one, then adds to `sum`.
template <class Units, bool masked, bool dropped>
void softmax_step(const AttentionShape& shape, const Scores<masked>& scores, int64_t columns, int64_t width,
                  float before, float maximum, float* sum, float* out) {
  const float shift = maximum == -infinity ? 0.0f : maximum;
  Vec total = load(sum);
  if (maximum != before && before != -infinity) {
    const Vec shrink = vexp2(broadcast(before - shift));
    for (int64_t d = 0; d < width; d += lanes) store(out + d, load(out + d) * shrink);
    total *= shrink;
  }
  uint64_t kept = 0;
  for (int64_t j = 0; j < columns; j += lanes) {
    if (dropped && j % 64 == 0) kept = kept_keys(shape, scores.row, scores.first_key + j);
    const Vec weight = vexp2(scores.at(j, shift));
    total += weight;
    const Vec kept_weight = dropped ? weight * factors_of(kept >> j % 64, shape.dropout.scale) : weight;
    if constexpr (Units::elements == 2) {  // never beyond the scores that are still to be read
      store(reinterpret_cast<bfloat16*>(scores.score) + j, kept_weight);
    } else {
      store(scores.score + j, kept_weight);
    }
  }
  store(sum, total);
}

// The step of every row of a tile: first all maxima, each of which waits for a whole row.
template <class Units>
void softmax_tile(const AttentionShape& shape, const Row* rows, int64_t count, int64_t first_key,
                  int64_t columns, const Buffers<Units>& b, int64_t i) {
  const auto each_row = [&](const auto& body) {
    for (int64_t r = 0; r < count; ++r) {
      float* score = b.score + r * key_block;
      const float factor = score_factor(shape);
      if (sees_all(rows[r].keys, first_key, first_key + columns)) {
        body(r, Scores<false>{rows[r], first_key, factor, score});
      } else {
        body(r, Scores<true>{rows[r], first_key, factor, score});
      }
    }
  };
  float maximum[tile_rows<Units>];
  each_row([&](int64_t r, auto scores) { maximum[r] = largest_score(scores, columns, b.maximum[i + r]); });
  each_row([&]<bool masked>(int64_t r, Scores<masked> scores) {
    const auto step =
        shape.dropout.threshold != 0 ? softmax_step<Units, masked, true> : softmax_step<Units, masked, false>;
    step(shape, scores, columns, b.out_row, b.maximum[i + r], maximum[r], b.sum + (i + r) * lanes,
         b.out + (i + r) * b.out_row);
    b.maximum[i + r] = maximum[r];
  });
}

// Number of keys from first_key to the last key of the block that any of the rows sees.
int64_t keys_seen(const Row* rows, int64_t count, int64_t first_key) {
  const int64_t begin = max_of(rows[0].keys.begin, first_key);
  const int64_t end = min_of(rows[count - 1].keys.end, first_key + key_block);
  return begin < end ? end - first_key : 0;
}

// Adds to a tile of scores what depends on the distance. The first of its rows is row i of the block.
template <class Units>
void add_distances(const Group& group, const Row* rows, int64_t count, int64_t first_key, int64_t columns,
                   int64_t i, const Buffers<Units>& b) {
  const AttentionShape& s = group.shape;
  for (int64_t r = 0; r < count; ++r) {
    float* score = b.score + r * key_block;
    const int64_t distance = first_key - group.position(rows[r]);
    if (b.tables.keys != nullptr) {
      add_by_distance(score, columns, distance, s.clip, b.relative_score + (i + r) * b.tables.width);
    }
    if (b.tables.lines.first != nullptr) {
      add_line(score, b.tables.lines.at(rows[r].head, distance), columns, s.scale * log2_e);
    }
  }
}

// Adds a tile's weights by distance, for relative values.
template <class Units>
void sum_distances(const Group& group, const Row* rows, int64_t count, int64_t first_key, int64_t columns,
                   int64_t i, const Buffers<Units>& b) {
  for (int64_t r = 0; r < count; ++r) {
    const float* weight = b.score + r * key_block;
    sum_by_distance(
        columns, first_key - group.position(rows[r]), group.shape.clip,
        [&](int64_t j, auto part) {
          if constexpr (Units::elements == 2) {
            return load(reinterpret_cast<const bfloat16*>(weight) + j, part);
          } else {
            return load(weight + j, part);
          }
        },
        b.out + (i + r) * b.out_row + b.width.sums);
  }
}

// Calls body(first row of a tile, its rows, keys they see) with the tile's scores in b.score.
template <class T, class Units, class Body>
void each_score_tile(const AttentionForward& p, const Group& group, const Row* rows, int64_t count,
                     int64_t first_key, const Buffers<Units>& b, const Body& body) {
  const T* k = static_cast<const T*>(p.k);
  const int64_t keys = min_of(key_block, group.keys - first_key);
  pack_panels_transposed<Units>(
      p.shape.head_dim, keys, [&](int64_t j) { return k + group.k_index(first_key + j); }, b.key,
      b.key_panel);
  for (int64_t i = 0; i < count; i += tile_rows<Units>) {
    const int64_t tile = min_of(tile_rows<Units>, count - i);
    const int64_t seen = keys_seen(rows + i, tile, first_key);
    if (seen == 0) continue;
    const int64_t columns = round_up(seen, key_step<Units>);
    product<Units>(tile, columns, b.width.units, b.query + i * b.width.row, b.width.row, b.key, tile_columns,
                   b.key_panel, b.score, key_block, false);
    if (b.tables.change_scores()) add_distances(group, rows + i, tile, first_key, columns, i, b);
    if (p.shape.score_cap != 0.0f) {
      for (int64_t r = 0; r < tile; ++r) cap_scores(p.shape, b.score + r * key_block, columns);
    }
    body(i, tile, seen);
  }
}

// weights (num_heads, queries, keys) of the sequence: the softmax, in a second pass over the keys.
template <class T, class Units>
void write_weights(const AttentionForward& p, const Group& group, const Row* rows, int64_t count,
                   const Buffers<Units>& b, float* weights) {
  const auto weights_row = [&](Row row) {
    return weights + (row.head * group.queries + row.query - group.q_begin) * group.keys;
  };
  for (int64_t i = 0; i < count; ++i) zero(weights_row(rows[i]), group.keys);
  for (int64_t first_key = 0; first_key < group.keys; first_key += key_block) {
    each_score_tile<T>(p, group, rows, count, first_key, b, [&](int64_t i, int64_t tile, int64_t seen) {
      for (int64_t r = 0; r < tile; ++r) {
        const Row& row = rows[i + r];
        const float logsumexp = p.logsumexp[group.lse_index(row)];
        each_vector(seen, [&](int64_t j, auto part) {
          const Vec weight = vexp2(load(b.score + r * key_block + j) * score_factor(p.shape) - logsumexp);
          store(weights_row(row) + first_key + j, inside(row.keys, first_key + j) ? weight : Vec{}, part);
        });
      }
    });
  }
}

// Rows first .. first + row_block - 1 of a group, in three passes: pack the queries; stream over the key
// blocks that some row sees, a tile of rows at a time; divide.
template <class T, class Units>
void forward_rows(const AttentionForward& p, const Group& group, int64_t first, const Buffers<Units>& b,
                  float* weights) {
  const AttentionShape& s = p.shape;
  const int64_t count = min_of(row_block, group.rows() - first);
  Row rows[row_block];
  for (int64_t i = 0; i < count; ++i) {
    rows[i] = group.row(first + i);
    b.maximum[i] = -infinity;
  }
  pack_rows<Units>(
      count, s.head_dim, [&](int64_t i) { return static_cast<const T*>(p.q) + group.q_index(rows[i]); },
      b.query, b.width.row);
  if (b.tables.keys != nullptr) {
    if constexpr (Units::elements == 2) {
      pack_rows<Singles>(
          count, s.head_dim, [&](int64_t i) { return static_cast<const T*>(p.q) + group.q_index(rows[i]); },
          b.relative_query, b.width.sums);
    }
    products_by_distance(b.tables, count, s.head_dim, b.relative_query, b.width.sums, b.tables.keys_t,
                         b.relative_score);
  }
  zero(b.sum, count * lanes);
  zero(b.out, round_up(count, row_step<Units>) * b.out_row);

  const int64_t first_block = rows[0].keys.begin / key_block * key_block;
  for (int64_t first_key = first_block; first_key < rows[count - 1].keys.end; first_key += key_block) {
    const int64_t keys = min_of(key_block, group.keys - first_key);
    const T* v = static_cast<const T*>(p.v);
    pack_panels<Units>(
        keys, s.head_dim, [&](int64_t j) { return v + group.v_index(first_key + j); }, b.value,
        b.value_panel);
    each_score_tile<T>(p, group, rows, count, first_key, b, [&](int64_t i, int64_t tile, int64_t seen) {
      const int64_t columns = round_up(seen, key_step<Units>);
      softmax_tile(s, rows + i, tile, first_key, columns, b, i);
      if (b.tables.values != nullptr) sum_distances(group, rows + i, tile, first_key, columns, i, b);
      product<Units>(tile, b.width.sums, units_of<Units>(seen), b.score, key_block, b.value, tile_columns,
                     b.value_panel, b.out + i * b.out_row, b.out_row, true);
    });
  }
  if (b.tables.values != nullptr) {
    add_products_with_table(b.tables, count, b.width.sums, b.out + b.width.sums, b.out_row, b.tables.values,
                            b.out, b.out_row);
  }

  for (int64_t i = 0; i < count; ++i) {
    const float sum = sum_lanes(load(b.sum + i * lanes));
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    T* out_row = static_cast<T*>(p.out) + group.out_index(rows[i]);
    each_vector(s.head_dim, [&](int64_t d, auto part) {
      store(out_row + d, load(b.out + i * b.out_row + d) * inverse, part);
    });
    p.logsumexp[group.lse_index(rows[i])] = b.maximum[i] + __builtin_log2f(sum);
  }
  if (weights != nullptr) write_weights<T>(p, group, rows, count, b, weights);
}

// One task per key head of the sequences that share their keys.
template <class T, class K>
void forward_one_query_each(const AttentionForward& p, const DistanceTables& tables, const int64_t* starts) {
  const AttentionShape& s = p.shape;
  const int64_t sequences = s.q_sequences.num_sequences;
  const int64_t size = OneQueryBuffers(nullptr, s).arena.used;
  const int64_t buffers_bytes = max_threads() * size * static_cast<int64_t>(sizeof(float));
  const Scratch scratch(buffers_bytes + (sequences + 1) * static_cast<int64_t>(sizeof(int64_t)));
  // (runs + 1,) the first sequence of each run that shares its keys
  int64_t* run = reinterpret_cast<int64_t*>(static_cast<char*>(scratch.data) + buffers_bytes);
  int64_t runs = 0;
  for (int64_t i = 0; i < sequences; ++i) {
    if (i == 0 || !share_keys(s, i - 1)) run[runs++] = i;
  }
  run[runs] = sequences;
  const int64_t grain = max_of(heads_at_once(s, runs), row_grain(s.k_sequences.max_length * s.head_dim));
  parallel_for(runs * s.kv_heads, grain, [&](int64_t begin, int64_t end) {
    const OneQueryBuffers buffers(static_cast<float*>(scratch.data) + thread_index() * size, s);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = run[task / s.kv_heads];
      if (s.q_sequences.lengths[first] == 0) continue;
      attend_one_query_each<T, K>(p, tables, first, run[task / s.kv_heads + 1], task % s.kv_heads, starts,
                                  buffers);
    }
  });
}

// One task per sequence, key head and block of rows.
template <class T>
void forward(const AttentionForward& p) {
  using Units = typename UnitsFor<T>::type;
  const AttentionShape& s = p.shape;
  const int64_t sequences = s.q_sequences.num_sequences;
  const int64_t most_rows = s.q_sequences.max_length * (s.num_heads / s.kv_heads);
  const int64_t blocks = (most_rows + row_block - 1) / row_block;

  const Scratch tables_memory(distance_tables_size(s) * static_cast<int64_t>(sizeof(float)));
  const DistanceTables tables = distance_tables(s, static_cast<float*>(tables_memory.data));
  const bool reads_rows = takes_one_query(s);
  const int64_t tile_size = Buffers<Units>(nullptr, s.head_dim, tables).arena.used;
  const int64_t size = reads_rows ? max_of(tile_size, OneQueryBuffers(nullptr, s).arena.used) : tile_size;
  const int64_t buffers_bytes = max_threads() * size * static_cast<int64_t>(sizeof(float));
  const Scratch scratch(buffers_bytes + sequences * static_cast<int64_t>(sizeof(int64_t)));
  // (num_sequences,) first element of each sequence's weights
  int64_t* starts = reinterpret_cast<int64_t*>(static_cast<char*>(scratch.data) + buffers_bytes);
  for (int64_t i = 0, start = 0; i < sequences; ++i) {
    starts[i] = start;
    start += s.num_heads * s.q_sequences.lengths[i] * s.k_sequences.lengths[i];
  }
  if (reads_rows && s.q_sequences.max_length == 1) {
    if (s.kv_dtype == s.dtype) return forward_one_query_each<T, T>(p, tables, starts);
    return forward_one_query_each<T, bfloat16>(p, tables, starts);
  }
  parallel_for(sequences * blocks * s.kv_heads, heads_at_once(s, sequences * blocks),
               [&](int64_t begin, int64_t end) {
                 const Registers<Units> registers;
                 float* memory = static_cast<float*>(scratch.data) + thread_index() * size;
                 const Buffers<Units> buffers(memory, s.head_dim, tables);
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t sequence = task / s.kv_heads / blocks;
                   const Group group(s, sequence, task % s.kv_heads);
                   const int64_t first = task / s.kv_heads % blocks * row_block;
                   if (first >= group.rows()) continue;
                   if (reads_rows && group.queries == 1) {
                     attend_one_query_each<T, T>(p, tables, sequence, sequence + 1, group.kv_head, starts,
                                                 OneQueryBuffers(memory, s));
                     continue;
                   }
                   forward_rows<T>(p, group, first, buffers,
                                   p.weights == nullptr ? nullptr : p.weights + starts[sequence]);
                 }
               });
}

}  // namespace

void attention_forward(const AttentionForward& p) {
  AttentionForward at = p;
  at.shape.dropout = at_its_step(p.shape.dropout);
  with_dtype(p.shape.dtype, [&]<class T>(T) {
    forward<T>(at);
    zero_tail(static_cast<T*>(p.out), p.shape.q_sequences, p.shape.num_heads * p.shape.head_dim);
  });
  zero_tail(p.logsumexp, p.shape.q_sequences, p.shape.num_heads);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
