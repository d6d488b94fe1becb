#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/backend.h"
#include "ops/elementwise.h"
#include "ops/gather.h"

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

// Tables by distance, each absent or float32 on the device of q.
struct Tables {
  const std::optional<Tensor>&bias, &relative_keys, &relative_values;
};

void check_bias(const AttentionOptions& options, const std::optional<Tensor>& bias, int64_t num_heads) {
  CHECK(bias.has_value() == (options.bias != BiasKind::none),
        "attention: bias must be given with options that name its kind, and only then");
  if (!bias) return;
  if (options.bias == BiasKind::alibi) {
    check_dtype("attention", "alibi_slopes", *bias, DType::float32);
    check_shape("attention", "alibi_slopes", *bias, {num_heads});
    return;
  }
  check_dtype("attention", "relative_bias", *bias, DType::float32);
  check_rank("attention", "relative_bias", *bias, 2);
  check_shape("attention", "relative_bias", *bias, {bias->dim(0), num_heads});
  // Half of the buckets of a direction hold one distance each, and the others longer ones.
  const int64_t least = options.bidirectional ? 4 : 2, exact = bias->dim(0) / least;
  CHECK(exact > 0, "attention: relative_bias must have at least ", least, " buckets, got ", bias->dim(0));
  CHECK(options.max_distance > exact && options.max_distance <= unlimited,
        "attention: max_distance must lie in [", exact + 1, ", 2^31) for ", bias->dim(0), " buckets, got ",
        options.max_distance);
}

// The largest distance that relative keys and values tell apart.
int64_t checked_clip(const Tables& tables, int64_t head_dim) {
  if (!tables.relative_keys && !tables.relative_values) return 0;
  int64_t rows = -1;
  const auto check_table = [&](const char* argument, const std::optional<Tensor>& table) {
    if (!table) return;
    check_dtype("attention", argument, *table, DType::float32);
    CHECK(table->rank() == 2 && table->dim(0) % 2 == 1, "attention: ", argument,
          " must have shape (an odd number, head_dim), got shape ", table->shape());
    check_shape("attention", argument, *table, {rows < 0 ? table->dim(0) : rows, head_dim});
    rows = table->dim(0);
  };
  check_table("relative_keys", tables.relative_keys);
  check_table("relative_values", tables.relative_values);
  return rows / 2;
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
                             const Sequences& k_sequences, const AttentionOptions& options,
                             const Tables& tables) {
  check_activations("attention", "q", q);
  check_dtype("attention", "k", k, k.dtype() == DType::bfloat16 ? DType::bfloat16 : q.dtype());
  check_dtype("attention", "v", v, k.dtype());
  const auto [num_heads, kv_heads, head_dim] = checked_heads(q, k, v, options.num_heads);
  check_rows("attention", "q_sequences", q_sequences, q);
  CHECK(k_sequences.capacity() == k.dim(0), "attention: k_sequences must have capacity ", k.dim(0),
        " (the rows of k), got ", k_sequences.capacity());
  CHECK(k_sequences.size() == q_sequences.size(),
        "attention: k_sequences must hold as many sequences as q_sequences (", q_sequences.size(), "), got ",
        k_sequences.size());
  CHECK(!options.window || *options.window >= 0, "attention: window must be at least 0, got ",
        options.window.value_or(0));
  CHECK(!options.query_offset || (*options.query_offset >= 0 && *options.query_offset <= unlimited),
        "attention: query_offset must lie in [0, 2^31), got ", options.query_offset.value_or(0));
  check_bias(options, tables.bias, num_heads);
  CHECK(!options.scale || std::isfinite(*options.scale), "attention: scale must be finite, got ",
        options.scale.value_or(0.0));
  const bool plain_scores = options.bias == BiasKind::none && !tables.relative_keys;
  CHECK(!options.score_cap || plain_scores,
        "attention: score_cap must be None with relative_bias, alibi_slopes or relative_keys, got ",
        options.score_cap.value_or(0.0));
  CHECK(!options.score_cap || (std::isfinite(*options.score_cap) && *options.score_cap > 0.0),
        "attention: score_cap must be above 0, got ", options.score_cap.value_or(0.0));
  const AttentionShape shape{
      .dtype = q.dtype(),
      .kv_dtype = k.dtype(),
      .q_sequences = q_sequences.view(q.device()),
      .k_sequences = k_sequences.view(q.device()),
      .num_heads = num_heads,
      .kv_heads = kv_heads,
      .head_dim = head_dim,
      .q_stride = num_heads * head_dim,
      .k_stride = kv_heads * head_dim,
      .v_stride = kv_heads * head_dim,
      .scale = static_cast<float>(options.scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim)))),
      .score_cap = static_cast<float>(options.score_cap.value_or(0.0)),
      .causal = options.causal,
      .window = options.window ? std::min(*options.window, unlimited) : -1,
      .query_offset = options.query_offset.value_or(-1),
      .bias_kind = options.bias,
      .bias = data_or_null(tables.bias),
      .bidirectional = options.bidirectional,
      .num_buckets = options.bias == BiasKind::relative ? tables.bias->dim(0) : 0,
      .max_distance = options.max_distance,
      .relative_keys = data_or_null(tables.relative_keys),
      .relative_values = data_or_null(tables.relative_values),
      .clip = checked_clip(tables, head_dim),
      .dropout = options.dropout,
  };
  check_draws(shape);
  return shape;
}

// Whether the backend reads keys and values where and as a cache keeps them.
bool reads_cache(const AttentionShape& shape, Device device) {
  return device.kind != Device::Kind::cuda && shape.q_sequences.max_length <= 1 && takes_one_query(shape);
}

// The rows of indexed sequences, end to end.
Tensor packed_rows(const Tensor& rows, const Sequences& sequences) {
  Shape shape = rows.shape();
  shape[0] = sequences.tokens();
  const Tensor packed = Tensor::empty(shape, rows.dtype(), rows.device());
  kernels(rows).gather_forward({.x = rows.raw(),
                                .ids = sequences.view(rows.device()).index,
                                .y = packed.raw(),
                                .num_ids = sequences.tokens(),
                                .row_bytes = rows.dim(0) == 0 ? 0 : rows.nbytes() / rows.dim(0)});
  return packed;
}

// The gradient of a table, where it is given.
void check_gradient(const char* argument, const std::optional<Tensor>& gradient,
                    const std::optional<Tensor>& table) {
  if (!gradient) return;
  CHECK(table.has_value(), "attention: ", argument, " must be given with its table, and only then");
  check_output("attention", argument, *gradient, table->shape());
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

std::tuple<Tensor, Tensor, std::optional<Tensor>> attention_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& q_sequences,
    const Sequences& k_sequences, const AttentionOptions& options, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& relative_keys, const std::optional<Tensor>& relative_values) {
  const AttentionShape shape =
      checked_shape(q, k, v, q_sequences, k_sequences, options, {bias, relative_keys, relative_values});
  if (!reads_cache(shape, q.device())) {
    if (k_sequences.is_indexed()) {
      return attention_forward(q, packed_rows(k, k_sequences), packed_rows(v, k_sequences), q_sequences,
                               Sequences(k_sequences.lengths()), options, bias, relative_keys,
                               relative_values);
    }
    if (k.dtype() != q.dtype()) {
      return attention_forward(q, cast(k, name(q.dtype())), cast(v, name(q.dtype())), q_sequences,
                               k_sequences, options, bias, relative_keys, relative_values);
    }
  }
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

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
    const Tensor& logsumexp, const Sequences& q_sequences, const Sequences& k_sequences,
    const AttentionOptions& options, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& relative_keys, const std::optional<Tensor>& relative_values,
    const std::optional<Tensor>& dbias, bool accumulate_bias, const std::optional<Tensor>& drelative_keys,
    bool accumulate_keys, const std::optional<Tensor>& drelative_values, bool accumulate_values) {
  const AttentionShape shape =
      checked_shape(q, k, v, q_sequences, k_sequences, options, {bias, relative_keys, relative_values});
  check_rows("attention", "k_sequences", k_sequences, k);
  check_dtype("attention", "k", k, q.dtype());
  check_dtype("attention", "dout", dout, q.dtype());
  check_dtype("attention", "out", out, q.dtype());
  check_dtype("attention", "logsumexp", logsumexp, DType::float32);
  check_shape("attention", "dout", dout, q.shape());
  check_shape("attention", "out", out, q.shape());
  check_shape("attention", "logsumexp", logsumexp, {q.dim(0), shape.num_heads});
  check_gradient("dbias", dbias, bias);
  CHECK(!dbias || options.bias == BiasKind::relative, "attention: slopes of ALiBi have no gradient");
  check_gradient("drelative_keys", drelative_keys, relative_keys);
  check_gradient("drelative_values", drelative_values, relative_values);
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
      .dbias = data_or_null(dbias),
      .drelative_keys = data_or_null(drelative_keys),
      .drelative_values = data_or_null(drelative_values),
      .accumulate_bias = accumulate_bias,
      .accumulate_keys = accumulate_keys,
      .accumulate_values = accumulate_values,
  });
  return {dq, dk, dv};
}

}  // namespace dragoman
