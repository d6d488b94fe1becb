// attention, backward.
#include "core/storage.h"
#include "cpu/attention_tile.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

namespace {

constexpr int64_t row_block = 64;  // rows taken against a key block at a time

// Working memory of one task; width = round_up(head_dim, padding).
struct Buffers {
  float* query;    // (row_block, width) q * scale
  float* dout;     // (row_block, width)
  float* dquery;   // (row_block, width) this key block's part of dq
  float* delta;    // (row_block,) dout . out
  float* key;      // (key_block, width)
  float* key_t;    // (head_dim, key_block)
  float* value_t;  // (head_dim, key_block)
  float* dkey;     // (key_block, width)
  float* dvalue;   // (key_block, width)
  float* weight;   // (row_block, key_block) scores, then the softmax after dropout
  float* dscore;   // (row_block, key_block) the weights' gradient, then the scores'
  float* dq_sum;   // (most_rows, width) dq / scale of the whole group

  Buffers(float* memory, int64_t head_dim, int64_t width) {
    Arena arena{memory};
    query = arena.take(row_block * width);
    dout = arena.take(row_block * width);
    dquery = arena.take(row_block * width);
    delta = arena.take(row_block);
    key = arena.take(key_block * width);
    key_t = arena.take(head_dim * key_block);
    value_t = arena.take(head_dim * key_block);
    dkey = arena.take(key_block * width);
    dvalue = arena.take(key_block * width);
    weight = arena.take(row_block * key_block);
    dscore = arena.take(row_block * key_block);
    dq_sum = arena.next;
  }
  static int64_t size(int64_t head_dim, int64_t width, int64_t most_rows) {
    return most_rows * width + 3 * (row_block + key_block) * width + row_block +
           2 * (head_dim + row_block) * key_block;
  }
};

// One row: softmax = exp(weight - logsumexp); dscore = softmax * (dscore - delta), weight = softmax, dropout
// applied to both.
void softmax_backward(const AttentionShape& shape, const Row& row, int64_t first_key, int64_t columns,
                      float logsumexp, float delta, float* weight, float* dscore) {
  // A softmax over one key is constant: no gradient at all, where dscore - delta leaves rounding errors.
  const Span varying = row.keys.end - row.keys.begin > 1 ? row.keys : Span{0, 0};
  const uint64_t kept = kept_keys(shape, row, first_key);
  for (int64_t j = 0; j < columns; j += lanes) {
    const Vec softmax = vexp(load(weight + j) - logsumexp);
    const Vec factor = factors_of(kept >> j, shape.dropout.scale);
    store(weight + j, inside(row.keys, first_key + j) ? softmax * factor : Vec{});
    store(dscore + j, inside(varying, first_key + j) ? softmax * (load(dscore + j) * factor - delta) : Vec{});
  }
}

// Rows first .. first + row_block - 1 against the packed key block: five products.
template <class T>
void backward_rows(const AttentionBackward& p, const Group& group, int64_t first, int64_t first_key,
                   const Buffers& b) {
  const AttentionShape& s = p.shape;
  const int64_t width = round_up(s.head_dim, padding);
  const int64_t count = min_of(row_block, group.rows() - first);
  Row rows[row_block];
  for (int64_t i = 0; i < count; ++i) rows[i] = group.row(first + i);
  const int64_t seen = keys_seen(rows, count, first_key);
  if (seen == 0) return;
  const int64_t columns = round_up(seen, padding);

  for (int64_t i = 0; i < count; ++i) {
    const T* out_row = static_cast<const T*>(p.out) + group.out_index(rows[i]);
    const T* dout_row = static_cast<const T*>(p.dout) + group.out_index(rows[i]);
    pack_row(static_cast<const T*>(p.q) + group.q_index(rows[i]), s.head_dim, s.scale, b.query + i * width);
    pack_row(dout_row, s.head_dim, 1.0f, b.dout + i * width);
    b.delta[i] = sum_of(
        s.head_dim, [&](int64_t d, auto part) { return load(out_row + d, part) * load(dout_row + d, part); });
  }
  const int64_t padded = (round_up(count, tile_rows) - count) * width;
  zero(b.query + count * width, padded);
  zero(b.dout + count * width, padded);

  product(count, columns, s.head_dim, {b.query, width, 1}, b.key_t, key_block, b.weight, key_block, false);
  product(count, columns, s.head_dim, {b.dout, width, 1}, b.value_t, key_block, b.dscore, key_block, false);
  for (int64_t i = 0; i < count; ++i) {
    softmax_backward(s, rows[i], first_key, columns, p.logsumexp[group.lse_index(rows[i])], b.delta[i],
                     b.weight + i * key_block, b.dscore + i * key_block);
  }
  product(seen, width, count, {b.weight, 1, key_block}, b.dout, width, b.dvalue, width, true);
  product(seen, width, count, {b.dscore, 1, key_block}, b.query, width, b.dkey, width, true);
  product(count, width, seen, {b.dscore, key_block, 1}, b.key, width, b.dquery, width, false);
  for (int64_t i = 0; i < count; ++i) {
    float* sum = b.dq_sum + (first + i) * width;
    for (int64_t d = 0; d < width; d += lanes) store(sum + d, load(sum + d) + load(b.dquery + i * width + d));
  }
}

// A group: for each key block, all rows that see it; dk and dv are complete then, dq grows in key order.
template <class T>
void backward_group(const AttentionBackward& p, const Group& group, const Buffers& b) {
  const AttentionShape& s = p.shape;
  const int64_t width = round_up(s.head_dim, padding);
  zero(b.dq_sum, group.rows() * width);
  for (int64_t first_key = 0; first_key < group.keys; first_key += key_block) {
    const int64_t keys = min_of(key_block, group.keys - first_key);
    pack_transposed(static_cast<const T*>(p.k) + group.k_index(first_key), s.k_stride, keys, s.head_dim,
                    b.key_t);
    pack_transposed(static_cast<const T*>(p.v) + group.v_index(first_key), s.v_stride, keys, s.head_dim,
                    b.value_t);
    for (int64_t j = 0; j < keys; ++j) {
      pack_row(static_cast<const T*>(p.k) + group.k_index(first_key + j), s.head_dim, 1.0f,
               b.key + j * width);
    }
    zero(b.dkey, key_block * width);
    zero(b.dvalue, key_block * width);
    for (int64_t first = 0; first < group.rows(); first += row_block) {
      backward_rows<T>(p, group, first, first_key, b);
    }
    for (int64_t j = 0; j < keys; ++j) {
      T* dk_row = static_cast<T*>(p.dk) + group.dk_index(first_key + j);
      T* dv_row = static_cast<T*>(p.dv) + group.dk_index(first_key + j);
      each_vector(s.head_dim, [&](int64_t d, auto part) {
        store(dk_row + d, load(b.dkey + j * width + d), part);
        store(dv_row + d, load(b.dvalue + j * width + d), part);
      });
    }
  }
  for (int64_t i = 0; i < group.rows(); ++i) {
    T* dq_row = static_cast<T*>(p.dq) + group.out_index(group.row(i));
    each_vector(s.head_dim, [&](int64_t d, auto part) {
      store(dq_row + d, load(b.dq_sum + i * width + d) * s.scale, part);
    });
  }
}

// One task per sequence and key head, so that every sum runs in one order.
template <class T>
void backward(const AttentionBackward& p) {
  const AttentionShape& s = p.shape;
  const int64_t width = round_up(s.head_dim, padding);
  const int64_t size =
      Buffers::size(s.head_dim, width, s.q_sequences.max_length * (s.num_heads / s.kv_heads));
  const Scratch scratch(max_threads() * size * static_cast<int64_t>(sizeof(float)));
  parallel_for(s.q_sequences.num_sequences * s.kv_heads, 1, [&](int64_t begin, int64_t end) {
    const Buffers buffers(static_cast<float*>(scratch.data) + thread_index() * size, s.head_dim, width);
    for (int64_t task = begin; task < end; ++task) {
      backward_group<T>(p, Group(s, task / s.kv_heads, task % s.kv_heads), buffers);
    }
  });

  zero_tail(static_cast<T*>(p.dq), s.q_sequences, s.num_heads * s.head_dim);
  zero_tail(static_cast<T*>(p.dk), s.k_sequences, s.kv_heads * s.head_dim);
  zero_tail(static_cast<T*>(p.dv), s.k_sequences, s.kv_heads * s.head_dim);
}

}  // namespace

void attention_backward(const AttentionBackward& p) {
  with_dtype(p.shape.dtype, [&](auto element) { backward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
