#include "ops/optimizer.h"

#include "core/backend.h"

namespace dragoman {

namespace {

void check_float32(const char* argument, const Tensor& tensor, const Shape& shape) {
  check_dtype("adamw_step", argument, tensor, DType::float32);
  check_shape("adamw_step", argument, tensor, shape);
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
  Tensor norm = Tensor::empty({}, DType::float32, gradients.device());
  kernels(gradients).gradient_norm(
      {.gradients = gradients.data<float>(), .norm = norm.data<float>(), .size = gradients.numel()});
  return norm;
}

std::vector<double> square_sums(const Tensor& gradients) {
  check_dtype("square_sums", "gradients", gradients, DType::float32);
  CHECK(gradients.device() == cpu_device, "square_sums: gradients must be on cpu, got ",
        name(gradients.device()));
  std::vector<double> sums(static_cast<size_t>((gradients.numel() + square_chunk - 1) / square_chunk));
  float norm = 0.0f;
  kernels(gradients).gradient_norm(
      {.gradients = gradients.data<float>(), .norm = &norm, .size = gradients.numel(), .sums = sums.data()});
  return sums;
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
