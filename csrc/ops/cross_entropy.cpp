#include "ops/cross_entropy.h"

#include <algorithm>

#include "core/backend.h"
#include "ops/indices.h"

namespace dragoman {

namespace {

struct Targets {
  Tensor ids;      // of the rows in use, checked
  int64_t number;  // that losses are divided by
};

Targets checked_targets(const char* op, const Tensor& ids, const Rows& rows, int64_t vocabulary,
                        double smoothing, std::optional<int64_t> num_targets) {
  check_indices(op, "ids", ids);
  check_shape(op, "ids", ids, {rows.capacity});
  CHECK(vocabulary > 0, op, ": the vocabulary must have at least one entry, got 0");
  CHECK(smoothing >= 0.0 && smoothing < 1.0, op, ": label_smoothing must lie in [0, 1), got ", smoothing);
  const Tensor checked = checked_indices(op, "ids", ids, rows.bound, -1, vocabulary);
  const int32_t* id = checked.data<int32_t>();
  const int64_t targets = std::count_if(id, id + rows.bound, [](int32_t target) { return target >= 0; });
  CHECK(!num_targets || *num_targets > 0 || (*num_targets == 0 && targets == 0), op,
        ": num_targets must be at least 1, got ", *num_targets);
  return {checked, num_targets.value_or(targets)};
}

Tensor factor_of(int64_t targets, Device device) {
  const float factor = targets > 0 ? static_cast<float>(1.0 / static_cast<double>(targets)) : 0.0f;
  return Tensor::from_host(&factor, {1}, DType::float32, device);
}

}  // namespace

std::tuple<Tensor, Tensor, std::optional<Tensor>> cross_entropy_forward(
    const Tensor& logits, const Tensor& ids, double smoothing, std::optional<int64_t> num_targets,
    bool need_dlogits, const std::optional<Sequences>& sequences) {
  const char* op = "cross_entropy";
  check_activations(op, "logits", logits);
  check_rank(op, "logits", logits, 2);
  const int64_t vocabulary = logits.dim(1);
  const Rows rows = rows_of(op, sequences, logits);
  const Targets targets = checked_targets(op, ids, rows, vocabulary, smoothing, num_targets);
  const Tensor factor = factor_of(targets.number, logits.device());
  Tensor loss = Tensor::empty({}, DType::float32, logits.device());
  const Tensor row_loss = Tensor::empty({rows.capacity}, DType::float32, logits.device());
  Tensor softmax = Tensor::empty({rows.capacity, 2}, DType::float32, logits.device());
  std::optional<Tensor> dlogits;
  if (need_dlogits) dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
  const Tensor device_ids = targets.ids.to(logits.device());
  kernels(logits).cross_entropy_forward({.logits = logits.raw(),
                                         .logits_row = vocabulary,
                                         .ids = device_ids.data<int32_t>(),
                                         .loss = loss.data<float>(),
                                         .row_loss = row_loss.data<float>(),
                                         .softmax = softmax.data<float>(),
                                         .dlogits = data_or_null<void>(dlogits),
                                         .dtype = logits.dtype(),
                                         .rows = rows,
                                         .vocabulary = vocabulary,
                                         .smoothing = static_cast<float>(smoothing),
                                         .factor = factor.data<float>()});
  return {loss, softmax, dlogits};
}

std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>, std::optional<Tensor>>
linear_cross_entropy_forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                             const Tensor& ids, double smoothing, std::optional<int64_t> num_targets,
                             bool need_dx, bool need_dweight, bool need_dbias,
                             const std::optional<Sequences>& sequences) {
  const char* op = "linear_cross_entropy";
  check_activations(op, "x", x);
  check_rank(op, "x", x, 2);
  CHECK_TYPE(weight.dtype() == x.dtype(), op, ": weight must be ", x.dtype(), " like x, got ",
             weight.dtype());
  check_rank(op, "weight", weight, 2);
  const int64_t features = x.dim(1), vocabulary = weight.dim(0);
  check_shape(op, "weight", weight, {vocabulary, features});
  if (bias) {
    check_dtype(op, "bias", *bias, DType::float32);
    check_shape(op, "bias", *bias, {vocabulary});
  }
  CHECK(bias || !need_dbias, op, ": need_dbias must be false without a bias, got true");
  const Rows rows = rows_of(op, sequences, x);
  const Targets targets = checked_targets(op, ids, rows, vocabulary, smoothing, num_targets);
  const auto wanted = [&](bool need, const Shape& shape, DType dtype) {
    return need ? std::optional(Tensor::empty(shape, dtype, x.device())) : std::nullopt;
  };
  const Tensor factor = factor_of(targets.number, x.device());
  Tensor loss = Tensor::empty({}, DType::float32, x.device());
  const Tensor row_loss = Tensor::empty({rows.capacity}, DType::float32, x.device());
  std::optional<Tensor> dx = wanted(need_dx, x.shape(), x.dtype());
  std::optional<Tensor> dweight = wanted(need_dweight, weight.shape(), DType::float32);
  std::optional<Tensor> dbias = wanted(need_dbias, {vocabulary}, DType::float32);
  const LossChunk chunk = kernels(x).loss_chunk(rows.capacity, vocabulary, x.dtype());
  const Tensor device_ids = targets.ids.to(x.device());
  const Tensor logits = Tensor::empty({chunk.rows, chunk.logits_row}, x.dtype(), x.device());
  kernels(x).linear_cross_entropy_forward({.x = x.raw(),
                                           .weight = weight.raw(),
                                           .bias = data_or_null(bias),
                                           .ids = device_ids.data<int32_t>(),
                                           .loss = loss.data<float>(),
                                           .row_loss = row_loss.data<float>(),
                                           .dx = data_or_null<void>(dx),
                                           .dweight = data_or_null(dweight),
                                           .dbias = data_or_null(dbias),
                                           .logits = logits.raw(),
                                           .chunk_rows = chunk.rows,
                                           .logits_row = chunk.logits_row,
                                           .dtype = x.dtype(),
                                           .rows = rows,
                                           .features = features,
                                           .vocabulary = vocabulary,
                                           .smoothing = static_cast<float>(smoothing),
                                           .factor = factor.data<float>()});
  return {loss, dx, dweight, dbias};
}

}  // namespace dragoman
