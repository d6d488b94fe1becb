// attention, backward.
#include "core/storage.h"
#include "cpu/attention/distance_backward.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

namespace {

constexpr int64_t key_block = 128;
// Row length of matrices that are read along columns: no two rows fall in one cache set.
constexpr int64_t pitch = key_block + 16;
// Maximum number of rows per pass over a key block: whole tiles.
template <class Units>
constexpr int64_t row_block = 132 / tile_rows<Units> * tile_rows<Units>;

static int64_t rows_of_group(const AttentionShape& shape) {
  return shape.q_sequences.max_length * (shape.num_heads / shape.kv_heads);
}

// Scratch memory of one task. dvalue and dkey are kept transposed: then the weights and the scores' gradients
// are right matrices of their products without a copy.
template <class Units>
struct Buffers {
  static constexpr bool paired = Units::elements == 2;
  static constexpr int64_t rows = row_block<Units>;
  static constexpr int64_t row_pitch = paired ? key_block / 2 + 16 : pitch;
  Arena arena;
  const DistanceTables& tables;
  Widths<Units> width;
  int64_t key_panel, key_t_panel;
  int64_t left_row, left_t_row;
  float* query;        // (max_rows + tile_rows, left_row)
  float* dout;         // (max_rows + tile_rows, left_row)
  float* query_t;      // (width.sums, left_t_row) in units across rows; where these are elements, query
  float* dout_t;       // (width.sums, left_t_row) in units across rows; where these are elements, dout
  float* key_across;   // panels (key_block / elements, tile_columns)
  float* key_t;        // panels (width.units, tile_columns) of the transpose
  float* value_t;      // panels (width.units, tile_columns) of the transpose
  float* dkey_t;       // (width.sums, pitch) dk / scale
  float* dvalue_t;     // (width.sums, pitch)
  float* score;        // (tile_rows, key_block)
  float* dweight;      // (tile_rows, key_block) gradient of the weights after dropout
  float* weight;       // (rows / elements, pitch) the softmax after dropout, in units across rows
  float* dscore;       // (rows / elements, pitch) the scores' gradient, in units across rows
  float* dscore_rows;  // (rows, row_pitch) the same along rows
  float* delta;        // (max_rows,) dout . out
  float* dquery;       // (max_rows + tile_rows, width.sums) dq / scale of the group
  Relative keys;       // query, and sums of the scores' gradients; empty without relative keys
  Relative values;     // dout, and sums of the weights; empty without relative values
  float* dlines;       // (heads of a group, tables.lines.size) sums of the scores' gradients, or null

  Buffers(float* memory, const AttentionShape& shape, const DistanceTables& tables, bool need_dlines)
      : arena{memory},
        tables(tables),
        width(shape.head_dim),
        key_panel(key_block / Units::elements * tile_columns),
        key_t_panel(width.units * tile_columns),
        left_row(odd_lines(width.row)),
        left_t_row(paired ? odd_lines(units_of<Units>(rows_of_group(shape))) : left_row) {
    const int64_t max_rows = rows_of_group(shape);
    query = arena.take((max_rows + tile_rows<Units>)*left_row);
    dout = arena.take((max_rows + tile_rows<Units>)*left_row);
    query_t = paired ? arena.take(width.sums * left_t_row) : query;
    dout_t = paired ? arena.take(width.sums * left_t_row) : dout;
    key_across = arena.take(key_block / Units::elements * width.panels);
    key_t = arena.take(key_block * width.units);
    value_t = arena.take(key_block * width.units);
    dkey_t = arena.take(width.sums * pitch);
    dvalue_t = arena.take(width.sums * pitch);
    score = arena.take(tile_rows<Units> * key_block);
    dweight = arena.take(tile_rows<Units> * key_block);
    weight = arena.take(rows / Units::elements * pitch);
    dscore = arena.take(rows / Units::elements * pitch);
    dscore_rows = paired ? arena.take(rows * row_pitch) : dscore;
    delta = arena.take(max_rows);
    dquery = arena.take((max_rows + tile_rows<Units>)*width.sums);
    keys = take_relative(tables.keys, query, max_rows);
    values = take_relative(tables.values, dout, max_rows);
    dlines = need_dlines ? arena.take(shape.num_heads / shape.kv_heads * tables.lines.size) : nullptr;
  }

 private:
  Relative take_relative(const float* table, float* packed, int64_t max_rows) {
    const int64_t count = table == nullptr ? 0 : max_rows + tile_rows<Units>;
    return {paired ? arena.take(count * width.sums) : packed, paired ? width.sums : left_row,
            arena.take(count * tables.width), arena.take(count * tables.width)};
  }
};

// A row beside its statistics.
struct SoftmaxRow {
  Row row;
  float logsumexp, delta;
};

// Whether a row sees keys of one block alone, without dropout.
static bool has_own_delta(const AttentionShape& shape, Span keys) {
  return shape.dropout.threshold == 0 && keys.begin < keys.end &&
         keys.begin / key_block == (keys.end - 1) / key_block;
}

// delta of such a row: from the very numbers that the scores' gradients are made of, so that these add up to
// 0. dout . out, which stands for it elsewhere, has roundings of its own.
static float own_delta(const AttentionShape& shape, const SoftmaxRow& row, int64_t first_key, int64_t columns,
                       const float* score, const float* dweight) {
  Vec sum{}, dot{};
  for (int64_t j = 0; j < columns; j += lanes) {
    const Vec e = vexp2(load(score + j) * score_factor(shape) - row.logsumexp);
    const Vec softmax = inside(row.row.keys, first_key + j) ? e : Vec{};
    sum += softmax;
    dot += softmax * load(dweight + j);
  }
  return sum_lanes(dot) / sum_lanes(sum);
}

// A pair of rows of a tile, the first of which is row i of the block: softmax = exp(score - logsumexp),
// weight = softmax and dscore = softmax * (dweight - delta), dropout applied; with a cap, times its slope.
template <class Units, bool masked, bool dropped, bool capped>
void softmax_backward(const AttentionShape& shape, const SoftmaxRow* pair, int64_t first_key, int64_t columns,
                      const float* score, const float* dweight, int64_t i, const Buffers<Units>& b) {
  uint64_t kept[2] = {};
  const float factor_of_scores = score_factor(shape);
  const float to_tanh = capped ? 1.0f / (shape.score_cap * log2_e) : 0.0f;
  for (int64_t j = 0; j < columns; j += lanes) {
    Vec weight[2], dscore[2];
#pragma GCC unroll 2
    for (int64_t r = 0; r < 2; ++r) {
      const Span keys = pair[r].row.keys;
      if (dropped && j % 64 == 0) kept[r] = kept_keys(shape, pair[r].row, first_key + j);
      const Vec softmax = vexp2(load(score + r * key_block + j) * factor_of_scores - pair[r].logsumexp);
      const Vec factor = dropped ? factors_of(kept[r] >> j % 64, shape.dropout.scale) : Vec{};
      const Vec gradient = load(dweight + r * key_block + j);
      weight[r] = dropped ? softmax * factor : softmax;
      dscore[r] = softmax * ((dropped ? gradient * factor : gradient) - pair[r].delta);
      if (capped) {
        const Vec tanh = load(score + r * key_block + j) * to_tanh;
        dscore[r] *= 1.0f - tanh * tanh;
      }
      if (masked) {
        // A softmax over one key is constant: no gradient, where dweight - delta leaves rounding errors.
        const Span varying = keys.end - keys.begin > 1 ? keys : Span{0, 0};
        weight[r] = inside(keys, first_key + j) ? weight[r] : Vec{};
        dscore[r] = inside(varying, first_key + j) ? dscore[r] : Vec{};
      }
    }
    if constexpr (Buffers<Units>::paired) {
      store(b.weight + i / 2 * pitch + j, pairs_of(weight[0], weight[1]));
      store(b.dscore + i / 2 * pitch + j, pairs_of(dscore[0], dscore[1]));
      bfloat16* along = reinterpret_cast<bfloat16*>(b.dscore_rows + i * b.row_pitch);
      store(along + j, dscore[0]);
      store(along + 2 * b.row_pitch + j, dscore[1]);
    } else {
      for (int64_t r = 0; r < 2; ++r) {
        store(b.weight + (i + r) * pitch + j, weight[r]);
        store(b.dscore + (i + r) * pitch + j, dscore[r]);
      }
    }
  }
}

// Weights and scores' gradients of a tile of rows, the first of which is row i of the block, against the
// `seen` first keys; zeros for the next keys and the next rows as far as a tile of keys or a group of units
// may read.
template <class Units, bool capped>
void softmax_tile(const AttentionShape& shape, SoftmaxRow* rows, int64_t count, int64_t first_key,
                  int64_t seen, int64_t i, const Buffers<Units>& b) {
  const int64_t columns = round_up(seen, key_step<Units>);
  const int64_t written = min_of(round_up(seen + tile_columns, lanes), key_block);
  const bool dropped = shape.dropout.threshold != 0;
  for (int64_t r = 0; r < count; ++r) {
    const Span span = rows[r].row.keys;
    if (has_own_delta(shape, span) && span.begin >= first_key && span.end <= first_key + key_block) {
      rows[r].delta =
          own_delta(shape, rows[r], first_key, columns, b.score + r * key_block, b.dweight + r * key_block);
    }
  }
  for (int64_t r = 0; r < count; r += 2) {
    const bool masked = !sees_all(rows[r].row.keys, first_key, first_key + columns) ||
                        !sees_all(rows[r + 1].row.keys, first_key, first_key + columns);
    const auto step = masked ? (dropped ? softmax_backward<Units, true, true, capped>
                                        : softmax_backward<Units, true, false, capped>)
                             : (dropped ? softmax_backward<Units, false, true, capped>
                                        : softmax_backward<Units, false, false, capped>);
    step(shape, rows + r, first_key, columns, b.score + r * key_block, b.dweight + r * key_block, i + r, b);
    for (int64_t unit = 0; unit < 2 / Units::elements; ++unit) {
      const int64_t first = ((i + r) / Units::elements + unit) * pitch;
      zero(b.weight + first + columns, written - columns);
      zero(b.dscore + first + columns, written - columns);
    }
  }
  for (int64_t r = i + round_up(count, 2); r < i + round_up(count, group_elements<Units>);
       r += 2) {  // paired
    zero(b.weight + r / 2 * pitch, written);
    zero(b.dscore + r / 2 * pitch, written);
    zero(b.dscore_rows + r * b.row_pitch, columns / 2);
    zero(b.dscore_rows + (r + 1) * b.row_pitch, columns / 2);
  }
}

// Adds to a tile of scores, and of weights' gradients, what depends on the distance. The first of its rows is
// row i of the group.
template <class Units>
void add_distances(const Group& group, const SoftmaxRow* rows, int64_t count, int64_t first_key,
                   int64_t columns, int64_t i, const Buffers<Units>& b) {
  const AttentionShape& s = group.shape;
  for (int64_t r = 0; r < count; ++r) {
    float *score = b.score + r * key_block, *dweight = b.dweight + r * key_block;
    const int64_t distance = first_key - group.position(rows[r].row), row = (i + r) * b.tables.width;
    if (b.tables.keys != nullptr) add_by_distance(score, columns, distance, s.clip, b.keys.products + row);
    if (b.tables.values != nullptr) {
      add_by_distance(dweight, columns, distance, s.clip, b.values.products + row);
    }
    if (b.tables.lines.first != nullptr) {
      add_line(score, b.tables.lines.at(rows[r].row.head, distance), columns, s.scale * log2_e);
    }
  }
}

// Adds up the scores' gradients and the weights of a tile of rows by distance. The first of its rows is row
// `place` of the block and row i of the group.
template <class Units>
void sum_distances(const Group& group, const SoftmaxRow* rows, int64_t count, int64_t first_key,
                   int64_t columns, int64_t place, int64_t i, const Buffers<Units>& b) {
  const AttentionShape& s = group.shape;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t distance = first_key - group.position(rows[r].row), row = (i + r) * b.tables.width;
    const float* along = b.dscore_rows + (place + r) * b.row_pitch;
    const auto dscore = [&](int64_t j, auto part) {
      if constexpr (Buffers<Units>::paired) {
        return load(reinterpret_cast<const bfloat16*>(along) + j, part);
      } else {
        return load(along + j, part);
      }
    };
    const auto weight = [&](int64_t j, auto part) {
      if constexpr (Buffers<Units>::paired) {
        const auto pairs = reinterpret_cast<UintVec>(load(b.weight + (place + r) / 2 * pitch + j, part));
        return reinterpret_cast<Vec>((place + r) % 2 == 0 ? pairs << 16 : pairs & 0xFFFF0000u);
      } else {
        return load(b.weight + (place + r) * pitch + j, part);
      }
    };
    if (b.tables.keys != nullptr) sum_by_distance(columns, distance, s.clip, dscore, b.keys.sums + row);
    if (b.tables.values != nullptr) sum_by_distance(columns, distance, s.clip, weight, b.values.sums + row);
    if (b.dlines != nullptr) {
      const int64_t head = rows[r].row.head - group.kv_head * group.num_heads;
      float* line = b.dlines + head * b.tables.lines.size + distance - b.tables.lines.lowest;
      for (int64_t j = 0; j < columns; j += lanes) {
        store(line + j, load(line + j) + dscore(j, AllLanes{}));
      }
    }
  }
}

// `count` rows from `first` on, a multiple of a group of units, against the packed key block: five products,
// of which those for dk and dv add to what there is, or begin.
template <class T, class Units>
void backward_rows(const AttentionBackward& p, const Group& group, int64_t first, int64_t count,
                   int64_t first_key, int64_t keys, bool add, const Buffers<Units>& b) {
  const AttentionShape& s = p.shape;
  const bool relative = b.tables.keys != nullptr || b.tables.values != nullptr;
  const bool add_by_distance = relative || b.tables.lines.first != nullptr;
  const bool sum_by_distance = relative || b.dlines != nullptr;
  SoftmaxRow rows[row_block<Units> + 1];
  for (int64_t i = 0; i < count; ++i) {
    const Row row = group.row(first + i);
    rows[i] = {row, p.logsumexp[group.lse_index(row)], b.delta[first + i]};
  }
  rows[count] = {{0, 0, {0, 0}}, 0.0f, 0.0f};  // completes the last pair
  for (int64_t i = 0; i < count; i += tile_rows<Units>) {
    const int64_t tile = min_of(tile_rows<Units>, count - i);
    const int64_t seen = min_of(rows[i + tile - 1].row.keys.end - first_key, keys);
    const int64_t columns = round_up(seen, key_step<Units>);
    product<Units>(tile, columns, b.width.units, b.query + (first + i) * b.left_row, b.left_row, b.key_t,
                   tile_columns, b.key_t_panel, b.score, key_block, false);
    product<Units>(tile, columns, b.width.units, b.dout + (first + i) * b.left_row, b.left_row, b.value_t,
                   tile_columns, b.key_t_panel, b.dweight, key_block, false);
    if (add_by_distance) add_distances(group, rows + i, tile, first_key, columns, first + i, b);
    if (s.score_cap == 0.0f) {
      softmax_tile<Units, false>(s, rows + i, tile, first_key, seen, i, b);
    } else {
      for (int64_t r = 0; r < tile; ++r) cap_scores(s, b.score + r * key_block, columns);
      softmax_tile<Units, true>(s, rows + i, tile, first_key, seen, i, b);
    }
    if (sum_by_distance) sum_distances(group, rows + i, tile, first_key, columns, i, first + i, b);
    product<Units>(tile, b.width.sums, units_of<Units>(seen), b.dscore_rows + i * b.row_pitch, b.row_pitch,
                   b.key_across, tile_columns, b.key_panel, b.dquery + (first + i) * b.width.sums,
                   b.width.sums, true);
  }

  // Rows [low, high) are those that see some key of the tile at j.
  int64_t low = 0, high = 0;
  for (int64_t j = 0; j < keys; j += tile_columns) {
    const int64_t columns = min_of(round_up(keys - j, lanes), tile_columns);
    while (low < count && rows[low].row.keys.end <= first_key + j) ++low;
    while (high < count && rows[high].row.keys.begin < first_key + j + columns) ++high;
    const int64_t from = low / group_elements<Units> * Units::group;
    const int64_t depth = low < high ? units_of<Units>(high) - from : 0;
    if (depth == 0 && add) continue;
    const float* weight = b.weight + from * pitch + j;
    const float* dscore = b.dscore + from * pitch + j;
    for (int64_t d = 0, tile; d < s.head_dim; d += tile) {
      const int64_t left = s.head_dim - d, tiles = divide_up(left, tile_rows<Units>);
      tile = min_of(round_up(divide_up(left, tiles), row_step<Units>), left);  // of about the same height
      const int64_t unit = first / Units::elements + from;
      const int64_t place = b.paired ? d * b.left_t_row + unit : unit * b.left_t_row + d;
      product<Units, !b.paired>(tile, columns, depth, b.dout_t + place, b.left_t_row, weight, pitch,
                                tile_columns, b.dvalue_t + d * pitch + j, pitch, add);
      product<Units, !b.paired>(tile, columns, depth, b.query_t + place, b.left_t_row, dscore, pitch,
                                tile_columns, b.dkey_t + d * pitch + j, pitch, add);
    }
  }
}

// row_of(j) (head_dim,) = factor times column j of sums_t (head_dim, pitch), for `keys` columns.
template <class RowOf>
void write_transposed(const float* sums_t, int64_t head_dim, int64_t keys, float factor,
                      const RowOf& row_of) {
  for (int64_t j = 0; j < keys; j += lanes) {
    each_vector(head_dim, [&](int64_t d, auto part) {
      Vec block[lanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) block[i] = load(sums_t + (d + i) * pitch + j) * factor;
      transpose(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (j + i < keys) store(row_of(j + i) + d, block[i], part);
      }
    });
  }
}

// A group: for each key block, all rows that see it; dk and dv are complete then, dq grows in key order.
template <class T, class Units>
void backward_group(const AttentionBackward& p, const Group& group, const TableGradients& gradients,
                    const Buffers<Units>& b) {
  const AttentionShape& s = p.shape;
  const int64_t rows = group.rows();
  const auto q_row = [&](int64_t i) { return static_cast<const T*>(p.q) + group.q_index(group.row(i)); };
  const auto dout_row = [&](int64_t i) {
    return static_cast<const T*>(p.dout) + group.out_index(group.row(i));
  };
  pack_rows<Units>(rows, s.head_dim, q_row, b.query, b.left_row);
  pack_rows<Units>(rows, s.head_dim, dout_row, b.dout, b.left_row);
  if (b.paired) {
    pack_columns<Units>(rows, s.head_dim, q_row, b.query_t, b.left_t_row);
    pack_columns<Units>(rows, s.head_dim, dout_row, b.dout_t, b.left_t_row);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const Row row = group.row(i);
    if (has_own_delta(s, row.keys)) continue;  // computed with the scores
    const int64_t index = group.out_index(row);
    b.delta[i] = sum_of(s.head_dim, [&](int64_t d, auto part) {
      return load(static_cast<const T*>(p.out) + index + d, part) *
             load(static_cast<const T*>(p.dout) + index + d, part);
    });
  }
  zero(b.dquery, (rows + tile_rows<Units>)*b.width.sums);
  begin_relative<Buffers<Units>::paired>(b.tables, s.head_dim, rows, q_row, b.tables.keys_t, b.keys);
  begin_relative<Buffers<Units>::paired>(b.tables, s.head_dim, rows, dout_row, b.tables.values_t, b.values);
  if (b.dlines != nullptr) zero(b.dlines, group.num_heads * b.tables.lines.size);
  int64_t first = 0, last = 0;  // rows [first, last) see some key of the block
  for (int64_t first_key = 0; first_key < group.keys; first_key += key_block) {
    const int64_t keys = min_of(key_block, group.keys - first_key);
    const auto k_row = [&](int64_t j) { return static_cast<const T*>(p.k) + group.k_index(first_key + j); };
    const auto v_row = [&](int64_t j) { return static_cast<const T*>(p.v) + group.v_index(first_key + j); };
    pack_panels_transposed<Units>(s.head_dim, keys, k_row, b.key_t, b.key_t_panel);
    pack_panels_transposed<Units>(s.head_dim, keys, v_row, b.value_t, b.key_t_panel);
    pack_panels<Units>(keys, s.head_dim, k_row, b.key_across, b.key_panel);
    while (first < rows && group.row(first).keys.end <= first_key) ++first;
    while (last < rows && group.row(last).keys.begin < first_key + keys) ++last;
    bool add = false;
    for (int64_t i = first / group_elements<Units> * group_elements<Units>; i < last; i += b.rows) {
      backward_rows<T>(p, group, i, min_of(b.rows, last - i), first_key, keys, add, b);
      add = true;
    }
    if (!add) {  // no row sees the block
      zero(b.dkey_t, b.width.sums * pitch);
      zero(b.dvalue_t, b.width.sums * pitch);
    }
    write_transposed(b.dkey_t, s.head_dim, keys, s.scale,
                     [&](int64_t j) { return static_cast<T*>(p.dk) + group.dk_index(first_key + j); });
    write_transposed(b.dvalue_t, s.head_dim, keys, 1.0f,
                     [&](int64_t j) { return static_cast<T*>(p.dv) + group.dk_index(first_key + j); });
  }
  if (b.tables.keys != nullptr) {
    add_products_with_table(b.tables, rows, b.width.sums, b.keys.sums, b.tables.width, b.tables.keys,
                            b.dquery, b.width.sums);
  }
  end_relative(b.tables, rows, b.width.sums, b.keys, gradients.dkeys);
  end_relative(b.tables, rows, b.width.sums, b.values, gradients.dvalues);
  if (b.dlines != nullptr) add_lines_to_buckets(group, b.tables.lines, b.dlines, gradients.dbias);
  for (int64_t i = 0; i < rows; ++i) {
    T* dq_row = static_cast<T*>(p.dq) + group.out_index(group.row(i));
    each_vector(s.head_dim, [&](int64_t d, auto part) {
      store(dq_row + d, load(b.dquery + i * b.width.sums + d) * s.scale, part);
    });
  }
}

// The largest number of partial sums of a table's gradient.
constexpr int64_t max_chunks = 256;

// One task per sequence and key head, so that every sum runs in one order. Where tables have a gradient, the
// tasks come in chunks that depend on their number alone, and each chunk has its own sums.
template <class T>
void backward(const AttentionBackward& p) {
  using Units = typename UnitsFor<T>::type;
  const AttentionShape& s = p.shape;
  const int64_t sequences = s.q_sequences.num_sequences, tasks = sequences * s.kv_heads;
  const Scratch tables_memory(distance_tables_size(s) * static_cast<int64_t>(sizeof(float)));
  const DistanceTables tables = distance_tables(s, static_cast<float*>(tables_memory.data));
  const bool need_dlines = p.dbias != nullptr;
  const int64_t partial_size = table_gradients(p, tables, nullptr).size;
  const int64_t grain = partial_size == 0 ? heads_at_once(s, sequences) : divide_up(tasks, max_chunks);
  const int64_t chunks = tasks == 0 ? 0 : divide_up(tasks, grain);
  const int64_t size = Buffers<Units>(nullptr, s, tables, need_dlines).arena.used;
  const Scratch scratch((max_threads() * size + chunks * partial_size) * static_cast<int64_t>(sizeof(float)));
  float* const partial = static_cast<float*>(scratch.data) + max_threads() * size;
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    const Registers<Units> registers;
    const Buffers<Units> buffers(static_cast<float*>(scratch.data) + thread_index() * size, s, tables,
                                 need_dlines);
    float* chunk_partial = partial + chunk * partial_size;
    zero(chunk_partial, partial_size);
    const TableGradients gradients = table_gradients(p, tables, chunk_partial);
    for (int64_t task = chunk * grain; task < min_of(tasks, (chunk + 1) * grain); ++task) {
      backward_group<T>(p, Group(s, task / s.kv_heads, task % s.kv_heads), gradients, buffers);
    }
  });
  if (partial_size != 0) write_table_gradients(p, tables, partial, chunks);

  zero_tail(static_cast<T*>(p.dq), s.q_sequences, s.num_heads * s.head_dim);
  zero_tail(static_cast<T*>(p.dk), s.k_sequences, s.kv_heads * s.head_dim);
  zero_tail(static_cast<T*>(p.dv), s.k_sequences, s.kv_heads * s.head_dim);
}

}  // namespace

void attention_backward(const AttentionBackward& p) {
  AttentionBackward at = p;
  at.shape.dropout = at_its_step(p.shape.dropout);
  with_dtype(p.shape.dtype, [&](auto element) { backward<decltype(element)>(at); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
