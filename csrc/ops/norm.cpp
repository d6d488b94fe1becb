#include "ops/norm.h"

#include "core/dispatch.h"

namespace dragoman {

namespace {

void check_input(const char* op, const Tensor& x, const Tensor& weight) {
  check_activations(op, "x", x);
  check_rank(op, "x", x, 2);
  CHECK(x.dim(1) > 0, op, ": x must have at least one feature, got shape ", x.shape());
  check_dtype(op, "weight", weight, DType::float32);
  check_shape(op, "weight", weight, {x.dim(1)});
}

void check_statistic(const char* op, const char* argument, const Tensor& statistic, int64_t rows) {
  check_dtype(op, argument, statistic, DType::float32);
  check_shape(op, argument, statistic, {rows});
}

// Returns y, mean (absent unless centred: rms_norm has none) and rstd.
std::tuple<Tensor, std::optional<Tensor>, Tensor> forward(const char* op, const Tensor& x,
                                                          const Tensor& weight,
                                                          const std::optional<Tensor>& bias, double eps,
                                                          bool centred,
                                                          const std::optional<Sequences>& sequences) {
  check_input(op, x, weight);
  if (bias) {
    check_dtype(op, "bias", *bias, DType::float32);
    check_shape(op, "bias", *bias, {x.dim(1)});
  }
  CHECK(eps >= 0.0, op, ": eps must be at least 0, got ", eps);
  const int32_t* tokens = tokens_or_null(op, sequences, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::optional<Tensor> mean;
  if (centred) mean = Tensor::empty({x.dim(0)}, DType::float32, x.device());
  Tensor rstd = Tensor::empty({x.dim(0)}, DType::float32, x.device());
  kernels(x).layer_norm_forward({.x = x.raw(),
                                 .weight = weight.data<float>(),
                                 .bias = data_or_null(bias),
                                 .y = y.raw(),
                                 .mean = data_or_null(mean),
                                 .rstd = rstd.data<float>(),
                                 .rows = x.dim(0),
                                 .features = x.dim(1),
                                 .dtype = x.dtype(),
                                 .eps = static_cast<float>(eps),
                                 .tokens = tokens});
  return {y, mean, rstd};
}

Tensor backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& weight,
                const std::optional<Tensor>& mean, const Tensor& rstd, const std::optional<Tensor>& dweight,
                bool accumulate_weight, const std::optional<Tensor>& dbias, bool accumulate_bias,
                const std::optional<Sequences>& sequences) {
  check_input(op, x, weight);
  check_dtype(op, "dy", dy, x.dtype());
  check_shape(op, "dy", dy, x.shape());
  if (mean) check_statistic(op, "mean", *mean, x.dim(0));
  check_statistic(op, "rstd", rstd, x.dim(0));
  if (dweight) check_output(op, "dweight", *dweight, {x.dim(1)});
  if (dbias) check_output(op, "dbias", *dbias, {x.dim(1)});
  const int32_t* tokens = tokens_or_null(op, sequences, x);
  Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).layer_norm_backward({.dy = dy.raw(),
                                  .x = x.raw(),
                                  .weight = weight.data<float>(),
                                  .mean = data_or_null(mean),
                                  .rstd = rstd.data<float>(),
                                  .dx = dx.raw(),
                                  .dweight = data_or_null(dweight),
                                  .dbias = data_or_null(dbias),
                                  .rows = x.dim(0),
                                  .features = x.dim(1),
                                  .dtype = x.dtype(),
                                  .accumulate_weight = accumulate_weight,
                                  .accumulate_bias = accumulate_bias,
                                  .tokens = tokens});
  return dx;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& x, const Tensor& weight,
                                                      const std::optional<Tensor>& bias, double eps,
                                                      const std::optional<Sequences>& sequences) {
  const auto [y, mean, rstd] = forward("layer_norm", x, weight, bias, eps, true, sequences);
  return {y, *mean, rstd};
}

Tensor layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                           const Tensor& rstd, const std::optional<Tensor>& dweight, bool accumulate_weight,
                           const std::optional<Tensor>& dbias, bool accumulate_bias,
                           const std::optional<Sequences>& sequences) {
  return backward("layer_norm_backward", dy, x, weight, mean, rstd, dweight, accumulate_weight, dbias,
                  accumulate_bias, sequences);
}

std::tuple<Tensor, Tensor> rms_norm_forward(const Tensor& x, const Tensor& weight, double eps,
                                            const std::optional<Sequences>& sequences) {
  const auto [y, mean, rstd] = forward("rms_norm", x, weight, std::nullopt, eps, false, sequences);
  return {y, rstd};
}

Tensor rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                         const std::optional<Tensor>& dweight, bool accumulate_weight,
                         const std::optional<Sequences>& sequences) {
  return backward("rms_norm_backward", dy, x, weight, std::nullopt, rstd, dweight, accumulate_weight,
                  std::nullopt, false, sequences);
}

}  // namespace dragoman
