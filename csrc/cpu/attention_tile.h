// What attention's two directions share: which keys a query sees, packing, and products of small matrices.
//
// A group is one sequence and one key head; its rows are the (query, query head) pairs that read it, in this
// order. Its keys come in blocks of `key_block`, counted from the start of the sequence.
#pragma once

#include "cpu/dropout_mask.h"
#include "cpu/rows.h"
#include "cpu/simd.h"
#include "ops/attention.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

constexpr int64_t key_block = 64;  // the 64 bits that dropout draws at a time
constexpr int64_t tile_rows = 8;   // of a product's left matrix: their sums live in registers
constexpr int64_t padding = 16;    // packed columns are padded to a multiple of the widest vector

static inline int64_t round_up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

// Keys [begin, end) of a sequence.
struct Span {
  int64_t begin, end;
};

struct Row {
  int64_t query;  // row of q, out and logsumexp
  int64_t head;
  Span keys;  // that it sees; neither end falls from one row to the next
};

struct Group {
  const AttentionShape& shape;
  int64_t kv_head, num_heads;  // query heads kv_head * num_heads .. + num_heads - 1 read it
  int64_t q_begin, queries;    // where the sequence stands in q
  int64_t k_begin, keys;       // and in k and v

  Group(const AttentionShape& shape, int64_t sequence, int64_t kv_head)
      : shape(shape),
        kv_head(kv_head),
        num_heads(shape.num_heads / shape.kv_heads),
        q_begin(shape.q_sequences.offsets[sequence]),
        queries(shape.q_sequences.lengths[sequence]),
        k_begin(shape.k_sequences.offsets[sequence]),
        keys(shape.k_sequences.lengths[sequence]) {}

  int64_t rows() const { return queries * num_heads; }

  Row row(int64_t index) const {
    const int64_t query = num_heads == 1 ? index : index / num_heads;
    const int64_t position = query + keys - queries;
    const int64_t begin = shape.window >= 0 ? max_of(0, position - shape.window) : 0;
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

// How many keys of the block at first_key some of the rows see, counted from first_key to the last of them.
static inline int64_t keys_seen(const Row* rows, int64_t count, int64_t first_key) {
  const int64_t begin = max_of(rows[0].keys.begin, first_key);
  const int64_t end = min_of(rows[count - 1].keys.end, first_key + key_block);
  return begin < end ? end - first_key : 0;
}

// Lanes are true where the keys first_key, first_key + 1, ... lie in the span.
static inline IntVec inside(Span span, int64_t first_key) {
  UintVec key;
  for (int64_t i = 0; i < lanes; ++i) key[i] = static_cast<uint32_t>(i);
  const UintVec from_begin = key + static_cast<uint32_t>(first_key - span.begin);
  return from_begin < static_cast<uint32_t>(span.end - span.begin);
}

// Bit j: dropout keeps the row's weight of key first_key + j. All ones without dropout; its scale is 1 then.
static inline uint64_t kept_keys(const AttentionShape& shape, const Row& row, int64_t first_key) {
  if (shape.dropout.threshold == 0) return ~uint64_t{0};
  const int64_t key_stride = round_up(shape.k_sequences.max_length, 8);
  const int64_t index = (row.head * shape.q_sequences.capacity + row.query) * key_stride + first_key;
  return dropout_bits(shape.dropout, static_cast<uint32_t>(index / 8));
}

// to (round_up(head_dim, padding),) = from (head_dim,) * factor, padded with zeros.
template <class T>
static inline void pack_row(const T* from, int64_t head_dim, float factor, float* to) {
  each_vector(head_dim, [&](int64_t d, auto part) { store(to + d, load(from + d, part) * factor); });
  for (int64_t d = round_up(head_dim, lanes); d < round_up(head_dim, padding); d += lanes) {
    store(to + d, Vec{});
  }
}

// Transposes a square: log2(lanes) times, the first half of its rows is interleaved with the second.
static inline void transpose(Vec (&row)[lanes]) {
  IntVec low, high;
  for (int32_t i = 0; i < lanes; ++i) {
    low[i] = i / 2 + i % 2 * static_cast<int32_t>(lanes);
    high[i] = low[i] + static_cast<int32_t>(lanes / 2);
  }
#pragma GCC unroll 4
  for (int64_t step = 1; step < lanes; step *= 2) {
    Vec mixed[lanes];
#pragma GCC unroll 16
    for (int64_t i = 0; i < lanes / 2; ++i) {
      mixed[2 * i] = __builtin_shuffle(row[i], row[i + lanes / 2], low);
      mixed[2 * i + 1] = __builtin_shuffle(row[i], row[i + lanes / 2], high);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < lanes; ++i) row[i] = mixed[i];
  }
}

// to (head_dim, key_block) = transpose of from (count, head_dim), whose last row is repeated as padding.
template <class T>
static inline void pack_transposed(const T* from, int64_t stride, int64_t count, int64_t head_dim,
                                   float* to) {
  for (int64_t key = 0; key < round_up(count, padding); key += lanes) {
    each_vector(head_dim, [&](int64_t d, auto part) {
      Vec square[lanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        square[i] = load(from + min_of(key + i, count - 1) * stride + d, part);
      }
      transpose(square);
      const int64_t used = min_of(lanes, head_dim - d);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) {
        if (i < used) store(to + (d + i) * key_block + key, square[i]);
      }
    });
  }
}

// A matrix whose element (i, j) is data[i * row + j * column].
struct View {
  const float* data;
  int64_t row, column;
};

template <int64_t R, int64_t V>
static inline __attribute__((always_inline)) void product_tile(int64_t depth, View a, const float* b,
                                                               int64_t b_row, float* c, int64_t c_row,
                                                               bool accumulate) {
  Vec sum[R][V] = {};
  for (int64_t l = 0; l < depth; ++l) {
    Vec b_l[V];
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) b_l[v] = load(b + l * b_row + v * lanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < R; ++i) {
      const Vec a_il = broadcast(a.data[i * a.row + l * a.column]);
#pragma GCC unroll 2
      for (int64_t v = 0; v < V; ++v) sum[i][v] += a_il * b_l[v];
    }
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < V; ++v) {
      float* c_iv = c + i * c_row + v * lanes;
      store(c_iv, accumulate ? load(c_iv) + sum[i][v] : sum[i][v]);
    }
  }
}

template <int64_t R>
static inline __attribute__((always_inline)) void product_rows(int64_t columns, int64_t depth, View a,
                                                               const float* b, int64_t b_row, float* c,
                                                               int64_t c_row, bool accumulate) {
  constexpr int64_t vectors = lanes == 16 ? 2 : 1;  // what the registers hold
  int64_t j = 0;
  for (; j + vectors * lanes <= columns; j += vectors * lanes) {
    product_tile<R, vectors>(depth, a, b + j, b_row, c + j, c_row, accumulate);
  }
  for (; j < columns; j += lanes) product_tile<R, 1>(depth, a, b + j, b_row, c + j, c_row, accumulate);
}

// c (rows, columns) = a (rows, depth) b (depth, columns), or c += a b; each sum runs over the depth in order.
// `columns` is a multiple of `padding`; a and c have room for round_up(rows, tile_rows) rows.
static void product(int64_t rows, int64_t columns, int64_t depth, View a, const float* b, int64_t b_row,
                    float* c, int64_t c_row, bool accumulate) {
  for (int64_t i = 0; i < rows; i += tile_rows) {
    const View a_i{a.data + i * a.row, a.row, a.column};
    float* c_i = c + i * c_row;
    if (rows - i == 1) {
      product_rows<1>(columns, depth, a_i, b, b_row, c_i, c_row, accumulate);
    } else if (rows - i <= tile_rows / 2) {
      product_rows<tile_rows / 2>(columns, depth, a_i, b, b_row, c_i, c_row, accumulate);
    } else {
      product_rows<tile_rows>(columns, depth, a_i, b, b_row, c_i, c_row, accumulate);
    }
  }
}

// Rows beyond those in use become zeros.
template <class T>
static inline void zero_tail(T* rows, const SequencesView& sequences, int64_t features) {
  const int64_t tokens = *sequences.tokens;
  zero(rows + tokens * features, (sequences.capacity - tokens) * features);
}

// Hands out the parts of one thread's working memory; sizes are multiples of 16, so that all are aligned.
struct Arena {
  float* next;

  float* take(int64_t size) {
    float* part = next;
    next += size;
    return part;
  }
};

}  // namespace dragoman::cpu::DRAGOMAN_ISA
