#include "ops/norm.h"

#include "core/backend.h"
#include "ops/dropout.h"

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

// The arguments of a kernel, checked, and its outputs.
struct Forward {
  Tensor y;
  std::optional<Tensor> mean;  // absent unless centred: rms_norm has none
  Tensor rstd;
  LayerNormForward kernel;
};

struct Backward {
  Tensor dx;
  LayerNormBackward kernel;
};

Forward forward(const char* op, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                double eps, bool centred, const std::optional<Sequences>& sequences) {
  check_input(op, x, weight);
  if (bias) {
    check_dtype(op, "bias", *bias, DType::float32);
    check_shape(op, "bias", *bias, {x.dim(1)});
  }
  CHECK(eps >= 0.0, op, ": eps must be at least 0, got ", eps);
  const Rows rows = rows_of(op, sequences, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::optional<Tensor> mean;
  if (centred) mean = Tensor::empty({x.dim(0)}, DType::float32, x.device());
  Tensor rstd = Tensor::empty({x.dim(0)}, DType::float32, x.device());
  return {y,
          mean,
          rstd,
          {.x = x.raw(),
           .weight = weight.data<float>(),
           .bias = data_or_null(bias),
           .y = y.raw(),
           .mean = data_or_null(mean),
           .rstd = rstd.data<float>(),
           .rows = rows,
           .features = x.dim(1),
           .dtype = x.dtype(),
           .eps = static_cast<float>(eps)}};
}

Backward backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& weight,
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
  const Rows rows = rows_of(op, sequences, x);
  Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  return {dx,
          {.dy = dy.raw(),
           .x = x.raw(),
           .weight = weight.data<float>(),
           .mean = data_or_null(mean),
           .rstd = rstd.data<float>(),
           .dx = dx.raw(),
           .dweight = data_or_null(dweight),
           .dbias = data_or_null(dbias),
           .rows = rows,
           .features = x.dim(1),
           .dtype = x.dtype(),
           .accumulate_weight = accumulate_weight,
           .accumulate_bias = accumulate_bias}};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& x, const Tensor& weight,
                                                      const std::optional<Tensor>& bias, double eps,
                                                      const std::optional<Sequences>& sequences) {
  const Forward norm = forward("layer_norm", x, weight, bias, eps, true, sequences);
  kernels(x).layer_norm_forward(norm.kernel);
  return {norm.y, *norm.mean, norm.rstd};
}

Tensor layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                           const Tensor& rstd, const std::optional<Tensor>& dweight, bool accumulate_weight,
                           const std::optional<Tensor>& dbias, bool accumulate_bias,
                           const std::optional<Sequences>& sequences) {
  const Backward norm = backward("layer_norm_backward", dy, x, weight, mean, rstd, dweight, accumulate_weight,
                                 dbias, accumulate_bias, sequences);
  kernels(x).layer_norm_backward(norm.kernel);
  return norm.dx;
}

std::tuple<Tensor, Tensor> rms_norm_forward(const Tensor& x, const Tensor& weight, double eps,
                                            const std::optional<Sequences>& sequences) {
  const Forward norm = forward("rms_norm", x, weight, std::nullopt, eps, false, sequences);
  kernels(x).layer_norm_forward(norm.kernel);
  return {norm.y, norm.rstd};
}

Tensor rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                         const std::optional<Tensor>& dweight, bool accumulate_weight,
                         const std::optional<Sequences>& sequences) {
  const Backward norm = backward("rms_norm_backward", dy, x, weight, std::nullopt, rstd, dweight,
                                 accumulate_weight, std::nullopt, false, sequences);
  kernels(x).layer_norm_backward(norm.kernel);
  return norm.dx;
}

std::tuple<Tensor, Tensor, std::optional<Tensor>, Tensor> residual_norm_forward(
    const Tensor& x, const Tensor& residual, const Tensor& weight, const std::optional<Tensor>& bias,
    const Dropout& dropout, double eps, bool centred, const std::optional<Sequences>& sequences) {
  const char* op = centred ? "residual_layer_norm" : "residual_rms_norm";
  check_activations(op, "x", x);
  check_rank(op, "x", x, 2);
  check_dtype(op, "residual", residual, x.dtype());
  check_shape(op, "residual", residual, x.shape());
  check_mask_size(op, dropout, x.dim(0), x.dim(1));
  const Tensor sum = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Forward norm = forward(op, sum, weight, bias, eps, centred, sequences);
  kernels(x).residual_norm_forward(
      {.x = x.raw(), .residual = residual.raw(), .sum = sum.raw(), .dropout = dropout, .norm = norm.kernel});
  return {norm.y, sum, norm.mean, norm.rstd};
}

std::tuple<Tensor, Tensor> residual_norm_backward(
    const Tensor& dy, const Tensor& sum, const Tensor& weight, const std::optional<Tensor>& mean,
    const Tensor& rstd, const Dropout& dropout, const std::optional<Tensor>& dweight, bool accumulate_weight,
    const std::optional<Tensor>& dbias, bool accumulate_bias, const std::optional<Sequences>& sequences) {
  const char* op = "residual_norm_backward";
  const Backward norm = backward(op, dy, sum, weight, mean, rstd, dweight, accumulate_weight, dbias,
                                 accumulate_bias, sequences);
  if (dropout.threshold == 0) {
    kernels(sum).layer_norm_backward(norm.kernel);
    return {norm.dx, norm.dx};
  }
  check_mask_size(op, dropout, sum.dim(0), sum.dim(1));
  const Tensor dx = Tensor::empty(sum.shape(), sum.dtype(), sum.device());
  kernels(sum).residual_norm_backward({.dx = dx.raw(), .dropout = dropout, .norm = norm.kernel});
  return {dx, norm.dx};
}

}  // namespace dragoman
