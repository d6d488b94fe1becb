// Gradients by the distance from query to key: what backward adds up for relative biases, keys and values.
#pragma once

#include "cpu/attention/distance.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// What relative keys or values need of a group's rows. `left` is the left operand, query or dout, in float32.
struct Relative {
  float* left;  // (max_rows + tile_rows, left_row)
  int64_t left_row;
  float* products;  // (max_rows + tile_rows, tables.width) left times the table
  float* sums;      // (max_rows + tile_rows, tables.width) by distance, the gradient of `products`
};

// Before the key blocks: what relative keys and values add, and zeros where sums by distance grow.
template <bool pack, class RowOf>
static void begin_relative(const DistanceTables& tables, int64_t head_dim, int64_t rows, const RowOf& row_of,
                           const float* table_t, const Relative& relative) {
  if (table_t == nullptr) return;
  if (pack) pack_rows<Singles>(rows, head_dim, row_of, relative.left, relative.left_row);
  products_by_distance(tables, rows, head_dim, relative.left, relative.left_row, table_t, relative.products);
  zero(relative.sums, (rows + 1) * tables.width);
}

// After them: dtable (tables.width, sums) += relative.sums^T relative.left.
static inline void end_relative(const DistanceTables& tables, int64_t rows, int64_t sums,
                                const Relative& relative, float* dtable) {
  if (dtable == nullptr) return;
  for (int64_t i = 0; i < tables.rows; i += tile_rows<Singles>) {
    product<Singles, true>(min_of(tile_rows<Singles>, tables.rows - i), sums, rows, relative.sums + i,
                           tables.width, relative.left, relative.left_row, tile_columns, dtable + i * sums,
                           sums, true);
  }
}

// Gradients of the tables that a chunk of groups adds to, in this order; null where nobody asks.
struct TableGradients {
  int64_t relative_row;      // floats of a row of dkeys and dvalues
  float* dbias = nullptr;    // (num_buckets, num_heads)
  float* dkeys = nullptr;    // (tables.width, relative_row)
  float* dvalues = nullptr;  // (tables.width, relative_row)
  int64_t size = 0;          // floats of all
};

// Without memory it only counts.
static inline TableGradients table_gradients(const AttentionBackward& p, const DistanceTables& tables,
                                             float* memory) {
  Arena arena{memory};
  TableGradients gradients{.relative_row = round_up(p.shape.head_dim, lanes)};
  const int64_t relative = tables.width * gradients.relative_row;
  if (p.dbias != nullptr) gradients.dbias = arena.take(p.shape.num_buckets * p.shape.num_heads);
  if (p.drelative_keys != nullptr) gradients.dkeys = arena.take(relative);
  if (p.drelative_values != nullptr) gradients.dvalues = arena.take(relative);
  gradients.size = arena.used;
  return gradients;
}

// Adds the sums of a group's lines to their buckets.   dlines: (heads of a group, tables.lines.size)
static inline void add_lines_to_buckets(const Group& group, const BiasLines& lines, const float* dlines,
                                        float* dbias) {
  const int64_t lowest = 1 - group.first_position() - group.queries;
  for (int64_t distance = lowest; distance < group.keys - group.first_position(); ++distance) {
    float* bucket = dbias + lines.bucket(distance) * group.shape.num_heads + group.kv_head * group.num_heads;
    for (int64_t head = 0; head < group.num_heads; ++head) {
      bucket[head] += dlines[head * lines.size + distance - lines.lowest];
    }
  }
}

// to (rows, columns) = or += factor times the sum of the chunks' tables, in the order of the chunks.
static inline void sum_chunks(const float* partial, int64_t chunks, int64_t chunk_size, int64_t rows,
                              int64_t row_size, int64_t columns, float factor, bool accumulate, float* to) {
  parallel_for(rows, 1, [&](int64_t row, int64_t) {
    each_vector(columns, [&](int64_t i, auto part) {
      Vec sum{};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += load(partial + chunk * chunk_size + row * row_size + i, part);
      }
      sum *= factor;
      float* element = to + row * columns + i;
      store(element, accumulate ? load(element, part) + sum : sum, part);
    });
  });
}

static inline void write_table_gradients(const AttentionBackward& p, const DistanceTables& tables,
                                         float* partial, int64_t chunks) {
  const TableGradients first = table_gradients(p, tables, partial);
  const int64_t size = first.size, heads = p.shape.num_heads, head_dim = p.shape.head_dim;
  if (p.dbias != nullptr) {
    sum_chunks(first.dbias, chunks, size, p.shape.num_buckets, heads, heads, 1.0f, p.accumulate_bias,
               p.dbias);
  }
  if (p.drelative_keys != nullptr) {
    sum_chunks(first.dkeys, chunks, size, tables.rows, first.relative_row, head_dim, p.shape.scale,
               p.accumulate_keys, p.drelative_keys);
  }
  if (p.drelative_values != nullptr) {
    sum_chunks(first.dvalues, chunks, size, tables.rows, first.relative_row, head_dim, 1.0f,
               p.accumulate_values, p.drelative_values);
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
