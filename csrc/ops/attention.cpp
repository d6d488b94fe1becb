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

AttentionShape checked_shape(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& q_sequences,
                             const Sequences& k_sequences, bool causal, std::optional<int64_t> window,
                             std::optional<double> scale, const Dropout& dropout) {
  check_activations("attention", "q", q);
  check_dtype("attention", "k", k, q.dtype());
  check_dtype("attention", "v", v, q.dtype());
  check_rank("attention", "q", q, 3);
  check_rank("attention", "k", k, 3);
  const int64_t num_heads = q.dim(1), kv_heads = k.dim(1), head_dim = q.dim(2);
  CHECK(num_heads > 0 && head_dim > 0,
        "attention: q must have at least one head of at least one feature, got shape ", q.shape());
  CHECK(k.dim(2) == head_dim, "attention: k must have q's head_dim ", head_dim, ", got ", k.dim(2));
  check_shape("attention", "v", v, k.shape());
  CHECK(kv_heads > 0 && num_heads % kv_heads == 0,
        "attention: num_heads must be a multiple of kv_heads, got ", num_heads, " and ", kv_heads);
  check_rows("attention", "q_sequences", q_sequences, q);
  CHECK(k_sequences.capacity() == k.dim(0), "attention: k_sequences must have capacity ", k.dim(0),
        " (the rows of k), got ", k_sequences.capacity());
  CHECK(k_sequences.size() == q_sequences.size(),
        "attention: k_sequences must hold as many sequences as q_sequences (", q_sequences.size(), "), got ",
        k_sequences.size());
  CHECK(!window || *window >= 0, "attention: window must be at least 0, got ", window.value_or(0));
  CHECK(!scale || std::isfinite(*scale), "attention: scale must be finite, got ", scale.value_or(0.0));
  const AttentionShape shape{
      .dtype = q.dtype(),
      .q_sequences = q_sequences.view(),
      .k_sequences = k_sequences.view(),
      .num_heads = num_heads,
      .kv_heads = kv_heads,
      .head_dim = head_dim,
      .q_stride = num_heads * head_dim,
      .k_stride = kv_heads * head_dim,
      .v_stride = kv_heads * head_dim,
      .scale = static_cast<float>(scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim)))),
      .causal = causal,
      .window = window ? std::min(*window, unlimited) : -1,
      .bias_kind = BiasKind::none,
      .bias = nullptr,
      .bias_size = 0,
      .dropout = dropout,
  };
  check_draws(shape);
  return shape;
}

Tensor empty_weights(int64_t num_heads, const Sequences& q_sequences, const Sequences& k_sequences) {
  int64_t size = 0;
  for (int64_t i = 0; i < q_sequences.size(); ++i) {
    size += element_count({num_heads, q_sequences.lengths()[i], k_sequences.lengths()[i]});
  }
  return Tensor::empty({size});
}

}  // namespace

std::tuple<Tensor, Tensor, std::optional<Tensor>> attention_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& q_sequences,
    const Sequences& k_sequences, bool causal, std::optional<int64_t> window, std::optional<double> scale,
    const Dropout& dropout, bool return_weights) {
  const AttentionShape shape =
      checked_shape(q, k, v, q_sequences, k_sequences, causal, window, scale, dropout);
  Tensor out = Tensor::empty(q.shape(), q.dtype(), q.device());
  Tensor logsumexp = Tensor::empty({q.dim(0), q.dim(1)}, DType::float32, q.device());
  std::optional<Tensor> weights;
  if (return_weights) weights = empty_weights(q.dim(1), q_sequences, k_sequences);
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
                                                      const Sequences& k_sequences, bool causal,
                                                      std::optional<int64_t> window,
                                                      std::optional<double> scale, const Dropout& dropout) {
  const AttentionShape shape =
      checked_shape(q, k, v, q_sequences, k_sequences, causal, window, scale, dropout);
  check_rows("attention", "k_sequences", k_sequences, k);
  check_dtype("attention", "dout", dout, q.dtype());
  check_dtype("attention", "out", out, q.dtype());
  check_dtype("attention", "logsumexp", logsumexp, DType::float32);
  check_shape("attention", "dout", dout, q.shape());
  check_shape("attention", "out", out, q.shape());
  check_shape("attention", "logsumexp", logsumexp, {q.dim(0), q.dim(1)});
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
  });
  return {dq, dk, dv};
}

}  // namespace dragoman
