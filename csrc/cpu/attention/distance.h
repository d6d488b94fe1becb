// What scores and weights get by the distance from query to key: lines of biases, relative keys and values.
#pragma once

#include "cpu/activation.h"
#include "cpu/attention/tile.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// -- Relative bias and ALiBi --

// The bucket of a distance (Raffel et al. 2020): the near distances have one each, the others grow by a
// factor.
static inline int64_t bucket_of(const AttentionShape& shape, int64_t distance) {
  const int64_t buckets = shape.bidirectional ? shape.num_buckets / 2 : shape.num_buckets;
  const int64_t first = shape.bidirectional && distance > 0 ? buckets : 0;
  const int64_t away = shape.bidirectional && distance > 0 ? distance : max_of(0, -distance);
  const int64_t exact = buckets / 2;
  if (away < exact) return first + away;
  if (away >= shape.max_distance) return first + buckets - 1;
  const float part =
      __builtin_logf(static_cast<float>(away) / static_cast<float>(exact)) /
      static_cast<float>(__builtin_log(static_cast<double>(shape.max_distance) / static_cast<double>(exact)));
  const auto more = static_cast<int64_t>(part * static_cast<float>(buckets - exact));
  return first + min_of(buckets - 1, exact + more);
}

// For each head the biases of all distances in order, so that a row's biases are neighbours in memory.
struct BiasLines {
  int64_t lowest, size;             // distances [lowest, lowest + size)
  float* first = nullptr;           // (num_heads, size)
  int32_t* first_bucket = nullptr;  // (size,) of a relative bias

  // The distances of a batch. Vectors of keys may end beyond the last one.
  explicit BiasLines(const AttentionShape& shape)
      : lowest(1 - shape.k_sequences.max_length),
        size(
            round_up(shape.q_sequences.max_length + shape.k_sequences.max_length + 2 * tile_columns, lanes)) {
    if (shape.query_offset >= 0) lowest = 1 - shape.query_offset - shape.q_sequences.max_length;
  }

  // Of `head`, at a distance.
  float* at(int64_t head, int64_t distance) const { return first + head * size + distance - lowest; }
  int64_t bucket(int64_t distance) const { return first_bucket[distance - lowest]; }
};

// Floats that fill_lines takes.
static inline int64_t lines_size(const AttentionShape& shape) {
  return shape.bias_kind == BiasKind::none ? 0 : (shape.num_heads + 1) * BiasLines(shape).size;
}

// Lines of biases times log2 e.
static inline BiasLines fill_lines(const AttentionShape& shape, float* memory) {
  BiasLines lines(shape);
  if (shape.bias_kind == BiasKind::none) return lines;
  const bool relative = shape.bias_kind == BiasKind::relative;
  lines.first = memory;
  lines.first_bucket = reinterpret_cast<int32_t*>(memory + shape.num_heads * lines.size);
  parallel_for(lines.size, element_grain / shape.num_heads + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t distance = lines.lowest + i;
      const auto away = static_cast<float>(distance < 0 ? -distance : distance);
      const int64_t bucket = relative ? bucket_of(shape, distance) : 0;
      lines.first_bucket[i] = static_cast<int32_t>(bucket);
      for (int64_t head = 0; head < shape.num_heads; ++head) {
        const float bias = relative ? shape.bias[bucket * shape.num_heads + head] : -shape.bias[head] * away;
        *lines.at(head, distance) = bias * log2_e;
      }
    }
  });
  return lines;
}

// What softmax multiplies scores with. Where there are lines or a cap, the scores hold this factor already.
static inline float score_factor(const AttentionShape& shape) {
  return shape.bias_kind == BiasKind::none && shape.score_cap == 0.0f ? shape.scale * log2_e : 1.0f;
}

// score[j] becomes the capped score times log2 e.
static inline void cap_scores(const AttentionShape& shape, float* score, int64_t columns) {
  const float to_tanh = shape.scale / shape.score_cap, from_tanh = shape.score_cap * log2_e;
  for (int64_t j = 0; j < columns; j += lanes) store(score + j, vtanh(load(score + j) * to_tanh) * from_tanh);
}

// score[j] becomes the score times scale and log2 e, plus line[j].
static inline void add_line(float* score, const float* line, int64_t columns, float factor) {
  for (int64_t j = 0; j < columns; j += lanes) store(score + j, load(score + j) * factor + load(line + j));
}

// -- Relative keys and values --

// Columns [0, low) of a row are as far before the query as tables go or farther, those from `high` on as far
// after it.
struct Stretches {
  int64_t low, high;

  // `distance` is that of column 0.
  Stretches(int64_t columns, int64_t distance, int64_t clip)
      : low(max_of(0, min_of(columns, -clip - distance))),
        high(max_of(low, min_of(columns, clip - distance))) {}
};

// to[j] += of_row[row of the distance of column j].   of_row: (2 * clip + 1,)
static inline void add_by_distance(float* to, int64_t columns, int64_t distance, int64_t clip,
                                   const float* of_row) {
  const Stretches stretches(columns, distance, clip);
  const auto add = [&](int64_t begin, int64_t end, const auto& value) {
    each_vector(end - begin, [&](int64_t i, auto part) {
      store(to + begin + i, load(to + begin + i, part) + value(begin + i, part), part);
    });
  };
  add(0, stretches.low, [&](int64_t, auto) { return broadcast(of_row[0]); });
  add(stretches.low, stretches.high,
      [&](int64_t j, auto part) { return load(of_row + clip + distance + j, part); });
  add(stretches.high, columns, [&](int64_t, auto) { return broadcast(of_row[2 * clip]); });
}

// of_row[row of the distance of column j] += value(j, part).   of_row: (2 * clip + 1,)
template <class Value>
static inline void sum_by_distance(int64_t columns, int64_t distance, int64_t clip, const Value& value,
                                   float* of_row) {
  const Stretches stretches(columns, distance, clip);
  of_row[0] += sum_of(stretches.low, value);
  each_vector(stretches.high - stretches.low, [&](int64_t i, auto part) {
    float* to = of_row + clip + distance + stretches.low + i;
    store(to, load(to, part) + value(stretches.low + i, part), part);
  });
  of_row[2 * clip] +=
      sum_of(columns - stretches.high, [&](int64_t i, auto part) { return value(stretches.high + i, part); });
}

// -- Both, prepared once for a call --

struct DistanceTables {
  BiasLines lines;
  int64_t rows, width;     // of a relative table, and rounded up to whole vectors
  int64_t panel, panel_t;  // floats of a panel
  // Relative tables as right matrices of products in float32; null where there is none.
  float* keys = nullptr;      // panels (rows, tile_columns)
  float* keys_t = nullptr;    // panels (head_dim, tile_columns) of the transpose
  float* values = nullptr;    // panels (rows, tile_columns)
  float* values_t = nullptr;  // panels (head_dim, tile_columns) of the transpose

  bool change_scores() const { return lines.first != nullptr || keys != nullptr; }
};

// Floats of a relative table as right matrices, across and transposed.
static inline int64_t relative_size(const AttentionShape& shape) {
  const int64_t rows = 2 * shape.clip + 1;
  return rows * round_up(shape.head_dim, tile_columns) + shape.head_dim * round_up(rows, tile_columns);
}

// Floats that distance_tables takes.
static inline int64_t distance_tables_size(const AttentionShape& shape) {
  const int64_t tables = (shape.relative_keys != nullptr) + (shape.relative_values != nullptr);
  return lines_size(shape) + tables * relative_size(shape);
}

static inline DistanceTables distance_tables(const AttentionShape& shape, float* memory) {
  const int64_t rows = 2 * shape.clip + 1, head_dim = shape.head_dim;
  DistanceTables tables{.lines = fill_lines(shape, memory),
                        .rows = rows,
                        .width = round_up(rows, lanes),
                        .panel = rows * tile_columns,
                        .panel_t = head_dim * tile_columns};
  memory += lines_size(shape);
  const auto pack = [&](const float* table, float*& across, float*& transposed) {
    if (table == nullptr) return;
    across = memory;
    transposed = memory + rows * round_up(head_dim, tile_columns);
    memory += relative_size(shape);
    const auto row = [&](int64_t i) { return table + i * head_dim; };
    pack_panels<Singles>(rows, head_dim, row, across, tables.panel);
    pack_panels_transposed<Singles>(head_dim, rows, row, transposed, tables.panel_t);
  };
  pack(shape.relative_keys, tables.keys, tables.keys_t);
  pack(shape.relative_values, tables.values, tables.values_t);
  return tables;
}

// to (count, tables.width) = the products of `count` rows of features with a table's rows: what a key or
// value at each distance adds to scores.
static inline void products_by_distance(const DistanceTables& tables, int64_t count, int64_t head_dim,
                                        const float* rows, int64_t stride, const float* table_t, float* to) {
  for (int64_t i = 0; i < count; i += tile_rows<Singles>) {
    product<Singles>(min_of(tile_rows<Singles>, count - i), tables.width, head_dim, rows + i * stride, stride,
                     table_t, tile_columns, tables.panel_t, to + i * tables.width, tables.width, false);
  }
}

// to (count, sums) += sums_by_distance (count, rows) times the table.
static inline void add_products_with_table(const DistanceTables& tables, int64_t count, int64_t sums,
                                           const float* sums_by_distance, int64_t stride, const float* table,
                                           float* to, int64_t to_row) {
  for (int64_t i = 0; i < count; i += tile_rows<Singles>) {
    product<Singles>(min_of(tile_rows<Singles>, count - i), sums, tables.rows, sums_by_distance + i * stride,
                     stride, table, tile_columns, tables.panel, to + i * to_row, to_row, true);
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
