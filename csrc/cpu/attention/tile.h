// Shared by attention's forward and backward: the keys that a query sees, dropout, scratch memory.
//
// A group is one sequence and one key head; its rows are the (query, query head) pairs that read it, in this
// order. Its keys come in blocks, counted from the start of the sequence.
#pragma once

#include "cpu/attention/product.h"
#include "cpu/dropout_mask.h"
#include "cpu/isa/rows.h"
#include "ops/attention.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Keys [begin, end) of a sequence.
struct Span {
  int64_t begin, end;
};

struct Row {
  int64_t query;  // row of q, out and logsumexp
  int64_t head;
  Span keys;  // that it sees; begin and end never decrease from one row to the next
};

struct Group {
  const AttentionShape& shape;
  int64_t kv_head, num_heads;  // query heads kv_head * num_heads .. + num_heads - 1 read it
  int64_t q_begin, queries;    // place of the sequence in q
  int64_t k_begin, keys;       // place of the sequence in k and v

  Group(const AttentionShape& shape, int64_t sequence, int64_t kv_head)
      : shape(shape),
        kv_head(kv_head),
        num_heads(shape.num_heads / shape.kv_heads),
        q_begin(shape.q_sequences.offsets[sequence]),
        queries(shape.q_sequences.lengths[sequence]),
        k_begin(shape.k_sequences.offsets[sequence]),
        keys(shape.k_sequences.lengths[sequence]) {}

  int64_t rows() const { return queries * num_heads; }
  // Of the sequence's first query.
  int64_t first_position() const { return shape.query_offset >= 0 ? shape.query_offset : keys - queries; }
  int64_t position(Row row) const { return row.query - q_begin + first_position(); }

  Row row(int64_t index) const {
    const int64_t query = num_heads == 1 ? index : index / num_heads;
    const int64_t position = query + first_position();
    const int64_t begin = shape.window >= 0 ? min_of(keys, max_of(0, position - shape.window)) : 0;
    int64_t end = shape.causal ? min_of(keys, position + 1) : keys;
    if (shape.window >= 0) end = min_of(end, position + shape.window + 1);
    return {q_begin + query, kv_head * num_heads + index - query * num_heads, {begin, max_of(begin, end)}};
  }

  int64_t q_index(Row row) const { return row.query * shape.q_stride + row.head * shape.head_dim; }
  int64_t out_index(Row row) const { return (row.query * shape.num_heads + row.head) * shape.head_dim; }
  int64_t lse_index(Row row) const { return row.query * shape.num_heads + row.head; }
  int64_t k_index(int64_t key) const { return (k_begin + key) * shape.k_stride + kv_head * shape.head_dim; }
  int64_t v_index(int64_t key) const { return (k_begin + key) * shape.v_stride + kv_head * shape.head_dim; }
  int64_t dk_index(int64_t key) const {
    return ((k_begin + key) * shape.kv_heads + kv_head) * shape.head_dim;
  }
};

// True in lanes whose key, first_key + lane, is in the span.
static inline IntVec inside(Span span, int64_t first_key) {
  UintVec key;
  for (int64_t i = 0; i < lanes; ++i) key[i] = static_cast<uint32_t>(i);
  const UintVec from_begin = key + static_cast<uint32_t>(first_key - span.begin);
  return from_begin < static_cast<uint32_t>(span.end - span.begin);
}

// Whether the row sees all keys of [begin, end).
static inline bool sees_all(Span span, int64_t begin, int64_t end) {
  return span.begin <= begin && end <= span.end;
}

// Bit j of 64 says whether dropout keeps the row's weight of key first_key + j.
static inline uint64_t kept_keys(const AttentionShape& shape, const Row& row, int64_t first_key) {
  const int64_t key_stride = round_up(shape.k_sequences.max_length, 8);
  const int64_t index = (row.query * shape.num_heads + row.head) * key_stride + first_key;
  return dropout_bits(shape.dropout, static_cast<uint32_t>(index / 8));
}

// Keys per step of the softmax: whole vectors of scores, and whole groups of units of weights.
template <class Units>
constexpr int64_t key_step = Units::group > 1 ? group_elements<Units> : lanes;

// Number of key heads of a task. All of them, because their rows are neighbours in memory, if the sequences
// have enough `parts` for the threads; otherwise one.
static inline int64_t heads_at_once(const AttentionShape& shape, int64_t parts) {
  return parts >= 4 * num_threads() ? shape.kv_heads : 1;
}

// Writes zeros to the rows that are not in use.
template <class T>
static inline void zero_tail(T* rows, const SequencesView& sequences, int64_t features) {
  const int64_t in_use = rows_in_use(sequences.rows);
  zero(rows + in_use * features, (sequences.rows.capacity - in_use) * features);
}

// Divides one thread's scratch memory into parts that begin at cache lines. Without a base it only counts.
struct Arena {
  float* base;
  int64_t used = 0;

  float* take(int64_t size) {
    float* part = base == nullptr ? nullptr : base + used;
    used += round_up(size, 16);
    return part;
  }
};

// Rounds up to an odd number of cache lines, so successive rows fall in different cache sets.
static inline int64_t odd_lines(int64_t size) {
  return (divide_up(size, 16) | 1) * 16;
}

// Sizes of the packed rows of head_dim features.
template <class Units>
struct Widths {
  int64_t sums;    // floats of a row of sums: head_dim in whole vectors
  int64_t panels;  // floats of the panels of such a product, for each unit
  int64_t units;   // units of a row
  int64_t row;     // the same in whole vectors

  explicit Widths(int64_t head_dim)
      : sums(round_up(head_dim, lanes)),
        panels(round_up(head_dim, tile_columns)),
        units(units_of<Units>(head_dim)),
        row(round_up(units, lanes)) {}
};

}  // namespace dragoman::cpu::DRAGOMAN_ISA
