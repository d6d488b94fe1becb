#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/backend.h"

namespace dragoman {

namespace {

constexpr int64_t unlimited = std::numeric_limits<int32_t>::max();

// One 32-bit counter numbers the blocks of eight draws.
void check_draws(const AttentionShape& shape) {
  if (shape.dropout.threshold == 0) return;
  const int64_t rows = shape.num_heads * shape.q_sequences.rows.capacity;
  const int64_t keys = (shape.k_sequences.max_length + 7) / 8 * 8;
  CHECK(keys == 0 || rows <= (int64_t{1} << 35) / keys,
        "attention: with dropout num_heads * query rows * longest key sequence must be at most 2^35, got ",
        shape.num_heads, " * ", shape.q_sequences.rows.capacity, " * ", keys);
}

// The only place that refuses options which the contract has and no kernel computes yet.
void check_supported(const AttentionOptions& options) {
  CHECK(options.bias != BiasKind::relative, "attention: bias \"relative\" is not supported yet");
  CHECK(options.bias != BiasKind::alibi, "attention: bias \"alibi\" is not supported yet");
  CHECK(!options.query_offset, "attention: query_offset is not supported yet, got ",
        options.query_offset.value_or(0));
}

struct Heads {
  int64_t num_heads, kv_heads, head_dim;
};

// Heads of q (rows, num_heads, head_dim), k and v (rows, kv_heads, head_dim).
Heads heads_of_axes(const Tensor& q, const Tensor& k, std::optional<int64_t> num_heads) {
  CHECK(q.rank() == 3, "attention: q must have 3 dimensions (or num_heads must be given), got shape ",
        q.shape());
  check_rank("attention", "k", k, 3);
  CHECK(q.dim(1) > 0 && q.dim(2) > 0,
        "attention: q must have at least one head of at least one feature, got shape ", q.shape());
  CHECK(num_heads.value_or(q.dim(1)) == q.dim(1), "attention: num_heads must be q's ", q.dim(1), ", got ",
        num_heads.value_or(0));
  CHECK(k.dim(2) == q.dim(2), "attention: k must have q's head_dim ", q.dim(2), ", got ", k.dim(2));
  return {q.dim(1), k.dim(1), q.dim(2)};
}

// Heads of q (rows, num_heads * head_dim), k and v (rows, kv_heads * head_dim).
Heads heads_of_columns(const Tensor& q, const Tensor& k, int64_t num_heads) {
  CHECK(num_heads > 0 && q.dim(1) > 0 && q.dim(1) % num_heads == 0,
        "attention: num_heads must divide the columns of q, got ", num_heads, " for shape ", q.shape());
  check_rank("attention", "k", k, 2);
  const int64_t head_dim = q.dim(1) / num_heads;
  CHECK(k.dim(1) % head_dim == 0, "attention: k must have a multiple of head_dim ", head_dim,
        " columns, got shape ", k.shape());
  return {num_heads, k.dim(1) / head_dim, head_dim};
}

Heads checked_heads(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<int64_t> num_heads) {
  const Heads heads =
      q.rank() == 2 && num_heads ? heads_of_columns(q, k, *num_heads) : heads_of_axes(q, k, num_heads);
  check_shape("attention", "v", v, k.shape());
  CHECK(heads.kv_heads > 0 && heads.num_heads % heads.kv_heads == 0,
        "attention: num_heads must be a multiple of kv_heads, got ", heads.num_heads, " and ",
        heads.kv_heads);
  return heads;
}

AttentionShape checked_shape(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& q_sequences,
                             const Sequences& k_sequences, const AttentionOptions& options) {
  check_supported(options);
  check_activations("attention", "q", q);
  check_dtype("attention", "k", k, q.dtype());
  check_dtype("attention", "v", v, q.dtype());
  const auto [num_heads, kv_heads, head_dim] = checked_heads(q, k, v, options.num_heads);
  check_rows("attention", "q_sequences", q_sequences, q);
  CHECK(k_sequences.capacity() == k.dim(0), "attention: k_sequences must have capacity ", k.dim(0),
        " (the rows of k), got ", k_sequences.capacity());
  CHECK(k_sequences.size() == q_sequences.size(),
        "attention: k_sequences must hold as many sequences as q_sequences (", q_sequences.size(), "), got ",
        k_sequences.size());
  CHECK(!options.window || *options.window >= 0, "attention: window must be at least 0, got ",
        options.window.value_or(0));
  CHECK(!options.scale || std::isfinite(*options.scale), "attention: scale must be finite, got ",
        options.scale.value_or(0.0));
  const AttentionShape shape{
      .dtype = q.dtype(),
      .q_sequences = q_sequences.view(q.device()),
      .k_sequences = k_sequences.view(q.device()),
      .num_heads = num_heads,
      .kv_heads = kv_heads,
      .head_dim = head_dim,
      .q_stride = num_heads * head_dim,
      .k_stride = kv_heads * head_dim,
      .v_stride = kv_heads * head_dim,
      .scale = static_cast<float>(options.scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim)))),
      .causal = options.causal,
      .window = options.window ? std::min(*options.window, unlimited) : -1,
      .query_offset = options.query_offset.value_or(-1),
      .bias_kind = options.bias,
      .bias = nullptr,
      .bidirectional = options.bidirectional,
      .num_buckets = options.num_buckets,
      .max_distance = options.max_distance,
      .dropout = options.dropout,
  };
  check_draws(shape);
  return shape;
}

Tensor empty_weights(int64_t num_heads, const Sequences& q_sequences, const Sequences& k_sequences,
                     Device device) {
  int64_t size = 0;
  for (int64_t i = 0; i < q_sequences.size(); ++i) {
    size += element_count({num_heads, q_sequences.lengths()[i], k_sequences.lengths()[i]});
  }
  return Tensor::empty({size}, DType::float32, device);
}

}  // namespace

std::tuple<Tensor, Tensor, std::optional<Tensor>> attention_forward(const Tensor& q, const Tensor& k,
                                                                    const Tensor& v,
                                                                    const Sequences& q_sequences,
                                                                    const Sequences& k_sequences,
                                                                    const AttentionOptions& options) {
  const AttentionShape shape = checked_shape(q, k, v, q_sequences, k_sequences, options);
  Tensor out = Tensor::empty(q.shape(), q.dtype(), q.device());
  Tensor logsumexp = Tensor::empty({q.dim(0), shape.num_heads}, DType::float32, q.device());
  std::optional<Tensor> weights;
  if (options.return_weights) weights = empty_weights(shape.num_heads, q_sequences, k_sequences, q.device());
  kernels(q).attention_forward({
      .shape = shape,
      .q = q.raw(),
      .k = k.raw(),
      .v = v.raw(),
      .out = out.raw(),
      .logsumexp = logsumexp.data<float>(),
      .weights = data_or_null(weights),
  });
  return {out, logsumexp, weights};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k,
                                                      const Tensor& v, const Tensor& out,
                                                      const Tensor& logsumexp, const Sequences& q_sequences,
                                                      const Sequences& k_sequences,
                                                      const AttentionOptions& options) {
  const AttentionShape shape = checked_shape(q, k, v, q_sequences, k_sequences, options);
  check_rows("attention", "k_sequences", k_sequences, k);
  check_dtype("attention", "dout", dout, q.dtype());
  check_dtype("attention", "out", out, q.dtype());
  check_dtype("attention", "logsumexp", logsumexp, DType::float32);
  check_shape("attention", "dout", dout, q.shape());
  check_shape("attention", "out", out, q.shape());
  check_shape("attention", "logsumexp", logsumexp, {q.dim(0), shape.num_heads});
  Tensor dq = Tensor::empty(q.shape(), q.dtype(), q.device());
  Tensor dk = Tensor::empty(k.shape(), q.dtype(), k.device());
  Tensor dv = Tensor::empty(v.shape(), q.dtype(), v.device());
  kernels(q).attention_backward({
      .shape = shape,
      .dout = dout.raw(),
      .q = q.raw(),
      .k = k.raw(),
      .v = v.raw(),
      .out = out.raw(),
      .logsumexp = logsumexp.data<float>(),
      .dq = dq.raw(),
      .dk = dk.raw(),
      .dv = dv.raw(),
      .dbias = nullptr,
  });
  return {dq, dk, dv};
}

}  // namespace dragoman
