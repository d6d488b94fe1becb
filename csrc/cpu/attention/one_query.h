// Attention of sequences with one query each, as in decoding. Keys and values are read where they lie, once
// for all queries that share them: of sequences that read the same rows, and of the heads of a group.
//
// A query's bits do not depend on the queries beside it.
#pragma once

#include "cpu/attention/distance.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

namespace {

constexpr int64_t queries_at_once = 4;
constexpr int64_t line = 64;  // bytes of a cache line

// Keys or values of one sequence: row j of them.
struct IndexedRows {
  const int32_t* index;  // null: rows first, first + 1 and so on
  int64_t first;

  IndexedRows(const SequencesView& sequences, int64_t sequence)
      : index(sequences.index == nullptr ? nullptr : sequences.index + sequences.offsets[sequence]),
        first(sequences.offsets[sequence]) {}
  int64_t at(int64_t j) const { return index == nullptr ? first + j : index[j]; }
};

// Scratch memory of one task.
struct OneQueryBuffers {
  Arena arena;
  int64_t query_row, score_row;
  float* query;  // (queries_at_once, query_row) in float32, zeros after head_dim
  float* score;  // (queries_at_once, score_row) scores of the keys that are seen, then their weights

  OneQueryBuffers(float* memory, const AttentionShape& s)
      : arena{memory},
        query_row(round_up(s.head_dim, lanes)),
        score_row(round_up(s.k_sequences.max_length, lanes)) {
    query = arena.take(queries_at_once * query_row);
    score = arena.take(queries_at_once * score_row);
  }
};

// Lane j becomes the sum of the lanes of vector j: in each round, of two vectors at a time, groups of `group`
// lanes are added to those beside them.
static inline __attribute__((always_inline)) Vec sums_of_lanes(Vec (&v)[lanes]) {
#pragma GCC unroll 4
  for (int32_t group = 1; group < lanes; group *= 2) {
    IntVec low, high;
    for (int32_t i = 0; i < lanes; ++i) {
      low[i] = i / group % 2 == 0 ? i : i - group + static_cast<int32_t>(lanes);
      high[i] = low[i] + group;
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < lanes / 2 / group; ++i) {
      v[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], low) + __builtin_shuffle(v[2 * i], v[2 * i + 1], high);
    }
  }
  return v[0];
}

// score[q][j - span.begin] = query q times key j, for Q queries. Beyond the last key there are copies of its
// score.
template <class K, int64_t Q>
static void score_keys(const AttentionShape& s, const K* k_head, const K* v_head, const IndexedRows& rows,
                       Span span, const OneQueryBuffers& b) {
  for (int64_t first = span.begin; first < span.end; first += lanes) {
    const K* k[lanes];
    for (int64_t j = 0; j < lanes; ++j) {
      const int64_t row = rows.at(min_of(first + j, span.end - 1));
      k[j] = k_head + row * s.k_stride;
      for (int64_t d = 0; d < s.head_dim; d += line / static_cast<int64_t>(sizeof(K))) {
        __builtin_prefetch(v_head + row * s.v_stride + d);
        __builtin_prefetch(k[j] + s.head_dim + d, 0, 2);  // of the next head
      }
    }
    for (int64_t q = 0; q < Q; ++q) {
      const float* query = b.query + q * b.query_row;
      Vec sum[lanes] = {};
      each_vector(s.head_dim, [&](int64_t d, auto part) {
        const Vec query_d = load(query + d);
#pragma GCC unroll 16
        for (int64_t j = 0; j < lanes; ++j) sum[j] += query_d * load(k[j] + d, part);
      });
      store(b.score + q * b.score_row + first - span.begin, sums_of_lanes(sum));
    }
  }
}

// out[q] (V vectors from feature d on) = sum over j of score[q][j] * value j, times inverse[q]
template <class T, class K, int64_t Q, int64_t V, class Part>
static void sum_values(const AttentionShape& s, const K* v_head, const IndexedRows& rows, Span span,
                       const OneQueryBuffers& b, const float* inverse, T* const* out, int64_t d, Part part) {
  Vec sum[Q][V] = {};
  for (int64_t j = span.begin; j < span.end; ++j) {
    const K* v = v_head + rows.at(j) * s.v_stride + d;
    Vec v_j[V];
#pragma GCC unroll 4
    for (int64_t c = 0; c < V; ++c) v_j[c] = load(v + c * lanes, part);
#pragma GCC unroll 4
    for (int64_t q = 0; q < Q; ++q) {
      const Vec weight = broadcast(b.score[q * b.score_row + j - span.begin]);
#pragma GCC unroll 4
      for (int64_t c = 0; c < V; ++c) sum[q][c] += weight * v_j[c];
    }
  }
#pragma GCC unroll 4
  for (int64_t q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int64_t c = 0; c < V; ++c) store(out[q] + d + c * lanes, sum[q][c] * inverse[q], part);
  }
}

// Replaces scores (count,) by weights that are not yet divided by their sum, which it returns with the
// maximum.
struct SoftmaxOfRow {
  float maximum, sum;  // of scores times log2 e

  SoftmaxOfRow(float* score, int64_t count, float factor) {
    maximum = largest_of(count, [&](int64_t j, auto part) { return load(score + j, part) * factor; });
    const float shift = maximum == -infinity ? 0.0f : maximum;
    sum = sum_of(count, [&](int64_t j, auto part) {
      const Vec weight = vexp2(load(score + j, part) * factor - shift);
      store(score + j, weight, part);
      return weight;
    });
  }
};

// Q queries, of dtype T, of sequences that read the same keys, of dtype K: query q is the one of sequence
// `sequence[q]`, head `head[q]`.
template <class T, class K, int64_t Q>
static void attend_queries(const AttentionForward& p, const DistanceTables& tables, const int64_t* sequence,
                           const int64_t* head, const int64_t* weights_start, const OneQueryBuffers& b) {
  const AttentionShape& s = p.shape;
  const Group group(s, sequence[0], head[0] / (s.num_heads / s.kv_heads));
  const IndexedRows rows(s.k_sequences, sequence[0]);
  const int64_t position = group.first_position();
  const Span span = group.row(0).keys;
  const int64_t count = span.end - span.begin;
  T* out[Q];
  for (int64_t q = 0; q < Q; ++q) {
    const int64_t row = s.q_sequences.offsets[sequence[q]];
    const T* from = static_cast<const T*>(p.q) + row * s.q_stride + head[q] * s.head_dim;
    out[q] = static_cast<T*>(p.out) + (row * s.num_heads + head[q]) * s.head_dim;
    each_vector(s.head_dim,
                [&](int64_t d, auto part) { store(b.query + q * b.query_row + d, load(from + d, part)); });
  }
  const K* v_head = static_cast<const K*>(p.v) + group.kv_head * s.head_dim;
  score_keys<K, Q>(s, static_cast<const K*>(p.k) + group.kv_head * s.head_dim, v_head, rows, span, b);
  float inverse[Q];
  for (int64_t q = 0; q < Q; ++q) {
    float* score = b.score + q * b.score_row;
    if (tables.lines.first != nullptr) {
      add_line(score, tables.lines.at(head[q], span.begin - position), round_up(count, lanes),
               s.scale * log2_e);
    }
    if (s.score_cap != 0.0f) cap_scores(s, score, count);
    const SoftmaxOfRow softmax(score, count, score_factor(s));
    inverse[q] = softmax.sum == 0.0f ? 0.0f : 1.0f / softmax.sum;
    const int64_t row = s.q_sequences.offsets[sequence[q]];
    p.logsumexp[row * s.num_heads + head[q]] = softmax.maximum + __builtin_log2f(softmax.sum);
    if (p.weights != nullptr) {
      float* weights = p.weights + weights_start[sequence[q]] + head[q] * group.keys;
      zero(weights, group.keys);
      each_vector(count, [&](int64_t j, auto part) {
        store(weights + span.begin + j, load(score + j, part) * inverse[q], part);
      });
    }
  }
  int64_t d = 0;
  for (; d + 4 * lanes <= s.head_dim; d += 4 * lanes) {
    sum_values<T, K, Q, 4>(s, v_head, rows, span, b, inverse, out, d, AllLanes{});
  }
  each_vector(s.head_dim - d, [&](int64_t e, auto part) {
    sum_values<T, K, Q, 1>(s, v_head, rows, span, b, inverse, out, d + e, part);
  });
}

// The queries of sequences [begin, end), which read the same keys, for one key head.
template <class T, class K>
static void attend_one_query_each(const AttentionForward& p, const DistanceTables& tables, int64_t begin,
                                  int64_t end, int64_t kv_head, const int64_t* weights_start,
                                  const OneQueryBuffers& b) {
  const int64_t group = p.shape.num_heads / p.shape.kv_heads;
  const int64_t total = (end - begin) * group;
  for (int64_t first = 0; first < total; first += queries_at_once) {
    const int64_t count = min_of(queries_at_once, total - first);
    int64_t sequence[queries_at_once], head[queries_at_once];
    for (int64_t q = 0; q < count; ++q) {
      sequence[q] = begin + (first + q) / group;
      head[q] = kv_head * group + (first + q) % group;
    }
    using Attend = void (*)(const AttentionForward&, const DistanceTables&, const int64_t*, const int64_t*,
                            const int64_t*, const OneQueryBuffers&);
    static constexpr Attend by_count[] = {attend_queries<T, K, 1>, attend_queries<T, K, 2>,
                                          attend_queries<T, K, 3>, attend_queries<T, K, 4>};
    by_count[count - 1](p, tables, sequence, head, weights_start, b);
  }
}

// Whether sequences i and i + 1 have one query each and read the same rows.
static inline bool share_keys(const AttentionShape& s, int64_t i) {
  const SequencesView &q = s.q_sequences, &k = s.k_sequences;
  return q.lengths[i] == 1 && q.lengths[i + 1] == 1 && k.offsets[i] == k.offsets[i + 1] &&
         k.lengths[i] == k.lengths[i + 1];
}

}  // namespace

}  // namespace dragoman::cpu::DRAGOMAN_ISA
