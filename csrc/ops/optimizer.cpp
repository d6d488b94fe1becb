#include "ops/optimizer.h"

#include "core/backend.h"

namespace dragoman {

namespace {

void check_bounds(const Tensor& bounds, int64_t size) {
  check_dtype("adamw_step", "bounds", bounds, DType::int64);
  check_rank("adamw_step", "bounds", bounds, 1);
  const int64_t count = bounds.dim(0);
  const int64_t* bound = bounds.data<int64_t>();
  CHECK(count > 0 && bound[0] == 0 && bound[count - 1] == size, "adamw_step: bounds must run from 0 to ",
        size, ", got ", count > 0 ? bound[0] : 0, " to ", count > 0 ? bound[count - 1] : 0);
  for (int64_t i = 1; i < count; ++i) {
    CHECK(bound[i - 1] <= bound[i], "adamw_step: bounds must not fall, got ", bound[i], " after ",
          bound[i - 1]);
  }
}

void check_arena(const char* argument, const Tensor& arena, int64_t size) {
  check_dtype("adamw_step", argument, arena, DType::float32);
  check_shape("adamw_step", argument, arena, {size});
}

}  // namespace

void adamw_step(const Tensor& parameters, const Tensor& gradients, const Tensor& mean, const Tensor& variance,
                const std::optional<Tensor>& shadow, const Tensor& bounds, const Tensor& lr_scale,
                const Tensor& weight_decay, double lr, double beta1, double beta2, double eps, int64_t step,
                double gradient_scale) {
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
  check_bounds(bounds, size);
  const int64_t num_segments = bounds.dim(0) - 1;
  check_arena("lr_scale", lr_scale, num_segments);
  check_arena("weight_decay", weight_decay, num_segments);
  CHECK(lr >= 0.0, "adamw_step: lr must be at least 0, got ", lr);
  CHECK(beta1 >= 0.0 && beta1 < 1.0, "adamw_step: beta1 must lie in [0, 1), got ", beta1);
  CHECK(beta2 >= 0.0 && beta2 < 1.0, "adamw_step: beta2 must lie in [0, 1), got ", beta2);
  CHECK(eps >= 0.0, "adamw_step: eps must be at least 0, got ", eps);
  CHECK(step >= 1, "adamw_step: step must be at least 1, got ", step);
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
                   .lr = lr,
                   .beta1 = beta1,
                   .beta2 = beta2,
                   .eps = eps,
                   .step = step,
                   .gradient_scale = static_cast<float>(gradient_scale)});
  parameters.storage()->written();
}

Tensor gradient_norm(const Tensor& gradients) {
  check_dtype("gradient_norm", "gradients", gradients, DType::float32);
  Tensor norm = Tensor::empty({}, DType::float32, gradients.device());
  kernels(gradients).gradient_norm(
      {.gradients = gradients.data<float>(), .norm = norm.data<float>(), .size = gradients.numel()});
  return norm;
}

}  // namespace dragoman
