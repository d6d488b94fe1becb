#include "ops/optimizer.h"

#include "core/backend.h"

namespace dragoman {

namespace {

void check_float32(const char* argument, const Tensor& tensor, const Shape& shape) {
  check_dtype("adamw_step", argument, tensor, DType::float32);
  check_shape("adamw_step", argument, tensor, shape);
}

constexpr DType float64_words = DType::int64;  // holds float64: there is no dtype of this name

Tensor square_sums_of(const Tensor& gradients) {
  const int64_t chunks = (gradients.numel() + square_chunk - 1) / square_chunk;
  const Tensor sums = Tensor::empty({chunks}, float64_words, gradients.device());
  kernels(gradients).square_sums(
      {.gradients = gradients.data<float>(), .sums = sums.data<double>(), .size = gradients.numel()});
  return sums;
}

Tensor norm_of(const Tensor& sums) {
  const Tensor norm = Tensor::empty({}, DType::float32, sums.device());
  kernels(sums).norm_of_sums(
      {.sums = sums.data<double>(), .norm = norm.data<float>(), .count = sums.numel()});
  return norm;
}

}  // namespace

void adamw_step(const Tensor& parameters, const Tensor& gradients, const Tensor& mean, const Tensor& variance,
                const std::optional<Tensor>& shadow, const Tensor& bounds, const Tensor& lr_scale,
                const Tensor& weight_decay, const Tensor& lr, const Tensor& norm, const Tensor& step,
                double beta1, double beta2, double eps, double max_norm) {
  check_rank("adamw_step", "parameters", parameters, 1);
  const int64_t size = parameters.dim(0);
  check_output("adamw_step", "parameters", parameters, {size});
  check_output("adamw_step", "gradients", gradients, {size});
  check_output("adamw_step", "mean", mean, {size});
  check_output("adamw_step", "variance", variance, {size});
  if (shadow) {
    check_dtype("adamw_step", "shadow", *shadow, DType::bfloat16);
    check_shape("adamw_step", "shadow", *shadow, {size});
    check_writeable("adamw_step", "shadow", *shadow);
  }
  check_dtype("adamw_step", "bounds", bounds, DType::int64);
  check_rank("adamw_step", "bounds", bounds, 1);
  const int64_t num_segments = bounds.dim(0) - 1;
  CHECK(num_segments > 0, "adamw_step: bounds must have at least 2 elements, got ", bounds.dim(0));
  check_float32("lr_scale", lr_scale, {num_segments});
  check_float32("weight_decay", weight_decay, {num_segments});
  check_float32("lr", lr, {});
  check_float32("norm", norm, {});
  check_dtype("adamw_step", "step", step, DType::int64);
  check_shape("adamw_step", "step", step, {});
  check_writeable("adamw_step", "step", step);
  CHECK(beta1 >= 0.0 && beta1 < 1.0, "adamw_step: beta1 must lie in [0, 1), got ", beta1);
  CHECK(beta2 >= 0.0 && beta2 < 1.0, "adamw_step: beta2 must lie in [0, 1), got ", beta2);
  CHECK(eps >= 0.0, "adamw_step: eps must be at least 0, got ", eps);
  CHECK(max_norm > 0.0, "adamw_step: max_norm must be above 0, got ", max_norm);
  kernels(parameters)
      .adamw_step({.parameters = parameters.data<float>(),
                   .gradients = gradients.data<float>(),
                   .mean = mean.data<float>(),
                   .variance = variance.data<float>(),
                   .shadow = data_or_null<bfloat16>(shadow),
                   .size = size,
                   .bounds = bounds.data<int64_t>(),
                   .lr_scale = lr_scale.data<float>(),
                   .weight_decay = weight_decay.data<float>(),
                   .num_segments = num_segments,
                   .lr = lr.data<float>(),
                   .norm = norm.data<float>(),
                   .step = step.data<int64_t>(),
                   .beta1 = beta1,
                   .beta2 = beta2,
                   .eps = eps,
                   .max_norm = max_norm});
  parameters.storage()->written();
}

Tensor gradient_norm(const Tensor& gradients) {
  check_dtype("gradient_norm", "gradients", gradients, DType::float32);
  return norm_of(square_sums_of(gradients));
}

std::vector<double> square_sums(const Tensor& gradients) {
  check_dtype("square_sums", "gradients", gradients, DType::float32);
  const Tensor sums = square_sums_of(gradients);
  std::vector<double> values(static_cast<size_t>(sums.numel()));
  sums.copy_to_host(values.data());
  return values;
}

Tensor norm_of_sums(const std::vector<double>& sums, const std::string& device) {
  return norm_of(Tensor::from_host(sums.data(), {std::ssize(sums)}, float64_words,
                                   parse_device("norm_of_sums", device)));
}

void moving_average(const Tensor& average, const Tensor& x, double gain) {
  check_output("moving_average", "average", average, x.shape());
  check_dtype("moving_average", "x", x, DType::float32);
  kernels(x).moving_average({.average = average.data<float>(),
                             .x = x.data<float>(),
                             .size = x.numel(),
                             .gain = static_cast<float>(gain)});
  average.storage()->written();
}

}  // namespace dragoman
