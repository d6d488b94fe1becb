// attention: softmax(q k^T scale + bias + mask) v over ragged sequences, without keeping the scores
// (Vaswani et al. 2017; the streaming softmax of Dao et al. 2022, FlashAttention).
//
// What may depend on the distance from a query to a key, key - position of the query:
//   relative bias: a learned table by bucket and head (Raffel et al. 2020, arXiv:1910.10683, section 2.1);
//   ALiBi: -slope of the head * |distance| (Press et al. 2022, arXiv:2108.12409);
//   relative keys and values: rows a of learned tables by clipped distance. A score is q (k + a_k) scale, the
//   output a sum of weight * (v + a_v) (Shaw et al. 2018, arXiv:1803.02155).
// Without these, a cap c may bound the scores: c tanh(score / c) (Gemma Team 2024, arXiv:2408.00118).
#pragma once

#include <optional>
#include <tuple>

#include "core/attention_options.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// Shared by forward and backward. Sequence i of the queries attends to sequence i of the keys.
//
// Query t of a sequence with n queries and m keys stands at position t + m - n, or at query_offset + t.
// `causal`: it sees keys j <= position. `window` >= 0: only keys with |j - position| <= window. A query
// without any key gives 0, with gradient 0.
struct AttentionShape {
  DType dtype;     // of q, k, v, out and their gradients
  DType kv_dtype;  // of k and v in forward: dtype, or bfloat16 beside float32 for sequences of one query
  SequencesView q_sequences, k_sequences;
  int64_t num_heads, kv_heads, head_dim;  // query head h reads key head h / (num_heads / kv_heads)
  int64_t q_stride, k_stride, v_stride;   // elements between two rows of q, k, v
  float scale;
  float score_cap;  // 0: none
  bool causal;
  int64_t window;        // -1: unlimited
  int64_t query_offset;  // position of each sequence's first query; -1: m - n
  BiasKind bias_kind;
  const float* bias;  // relative: (num_buckets, num_heads); alibi: slopes (num_heads,); none: null
  bool bidirectional;
  int64_t num_buckets, max_distance;
  // (2 * clip + 1, head_dim) or null: row clip + max(-clip, min(clip, distance)) for a distance
  const float* relative_keys;
  const float* relative_values;
  int64_t clip;
  // Logical index of the mask: (query row * num_heads + head) * round_up(k_sequences.max_length, 8) + key.
  Dropout dropout;  // of the softmax's weights
};

// Whether a backend may take sequences of one query on a way of their own, on which keys may be indexed.
static inline bool takes_one_query(const AttentionShape& shape) {
  return shape.dropout.threshold == 0 && shape.relative_keys == nullptr && shape.relative_values == nullptr;
}

// Indexed keys, and keys of another dtype than the queries, come only where all sequences have one query at
// most, takes_one_query holds and the backend reads them, which CUDA does not yet.
struct AttentionForward {
  AttentionShape shape;
  const void* q;     // (q_capacity, num_heads, head_dim)
  const void* k;     // (k_capacity, kv_heads, head_dim)
  const void* v;     // (k_capacity, kv_heads, head_dim)
  void* out;         // (q_capacity, num_heads, head_dim), dense
  float* logsumexp;  // (q_capacity, num_heads) of base 2; -inf for a query without keys
  // Null, or for each sequence in turn (num_heads, queries, keys): the softmax before dropout.
  float* weights;
};

struct AttentionBackward {
  AttentionShape shape;
  const void* dout;         // (q_capacity, num_heads, head_dim), dense
  const void* q;            // (q_capacity, num_heads, head_dim)
  const void* k;            // (k_capacity, kv_heads, head_dim)
  const void* v;            // (k_capacity, kv_heads, head_dim)
  const void* out;          // (q_capacity, num_heads, head_dim), dense
  const float* logsumexp;   // (q_capacity, num_heads)
  void* dq;                 // (q_capacity, num_heads, head_dim), dense
  void* dk;                 // (k_capacity, kv_heads, head_dim), dense
  void* dv;                 // (k_capacity, kv_heads, head_dim), dense
  float* dbias;             // null, or the shape of the relative bias's table
  float* drelative_keys;    // null, or the shape of relative_keys
  float* drelative_values;  // null, or the shape of relative_values
  bool accumulate_bias, accumulate_keys, accumulate_values;
};

// q (q_capacity, num_heads, head_dim) or, with options.num_heads, (q_capacity, num_heads * head_dim); k and v
// likewise with kv_heads, of q's dtype or, as a cache keeps them, bfloat16. `bias` is what options.bias says,
// float32 as the relative tables. Returns out of q's shape, logsumexp (q_capacity, num_heads) and, if
// options.return_weights, the weights of all sequences end to end.
std::tuple<Tensor, Tensor, std::optional<Tensor>> attention_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& q_sequences,
    const Sequences& k_sequences, const AttentionOptions& options,
    const std::optional<Tensor>& bias = std::nullopt,
    const std::optional<Tensor>& relative_keys = std::nullopt,
    const std::optional<Tensor>& relative_values = std::nullopt);

// Returns dq, dk, dv, and writes the gradients of the tables where given. The key sequences must be packed.
std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
    const Tensor& logsumexp, const Sequences& q_sequences, const Sequences& k_sequences,
    const AttentionOptions& options, const std::optional<Tensor>& bias = std::nullopt,
    const std::optional<Tensor>& relative_keys = std::nullopt,
    const std::optional<Tensor>& relative_values = std::nullopt,
    const std::optional<Tensor>& dbias = std::nullopt, bool accumulate_bias = false,
    const std::optional<Tensor>& drelative_keys = std::nullopt, bool accumulate_keys = false,
    const std::optional<Tensor>& drelative_values = std::nullopt, bool accumulate_values = false);

}  // namespace dragoman
