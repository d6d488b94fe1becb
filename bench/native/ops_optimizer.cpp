// AdamW, in bfloat16 with a copy of the parameters, and the gradient's norm over as many parameters as the
// model's embedding has.
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "harness.h"
#include "ops/optimizer.h"

namespace dragoman::bench {

namespace {

constexpr double lr = 1e-3, beta1 = 0.9, beta2 = 0.98, eps = 1e-9, decay = 0.1;

struct Arenas {
  explicit Arenas(const Model& m, bool with_shadow = false)
      : size(m.vocabulary * m.d_model), parameters(random_tensor({size})), gradients(random_tensor({size})) {
    bounds.data<int64_t>()[0] = 0;
    bounds.data<int64_t>()[1] = size;
    *lr_scale.data<float>() = 1.0f;
    *weight_decay.data<float>() = static_cast<float>(decay);
    *learning_rate.data<float>() = static_cast<float>(lr);
    *norm.data<float>() = 1.0f;  // not above max_norm: nothing is clipped
    if (with_shadow) shadow = Tensor::empty({size}, DType::bfloat16);
    for (int64_t i = 0; i < size; i += stride) before.push_back({value(parameters, i), value(gradients, i)});
  }

  void step() {
    adamw_step(parameters, gradients, mean, variance, shadow, bounds, lr_scale, weight_decay, learning_rate,
               norm, steps, beta1, beta2, eps, 1.0);
  }

  // After the first step.
  void check_step() const {
    for (int64_t i = 0; i < size; i += stride) {
      const auto [parameter, gradient] = before[i / stride];
      const double kept = parameter * (1.0 - lr * decay);
      const double expected = kept - lr * gradient / (std::abs(gradient) + eps);
      expect_close("adamw_step", value(parameters, i), expected, 1.0, DType::float32);
      expect_close("adamw_step: cleared gradient", value(gradients, i), 0.0, 0.0, DType::float32);
      if (shadow) expect_close("adamw_step: shadow", value(*shadow, i), expected, 1.0, DType::bfloat16);
    }
  }

  void check_norm() const {
    double sum = 0.0;
    for (int64_t i = 0; i < size; ++i) sum += value(gradients, i) * value(gradients, i);
    expect_close("gradient_norm", value(norm, 0), std::sqrt(sum), std::sqrt(sum), DType::float32);
  }

  static constexpr int64_t stride = 101;
  const int64_t size;
  const Tensor parameters, gradients;
  const Tensor mean = Tensor::zeros({size}), variance = Tensor::zeros({size});
  const Tensor bounds = Tensor::empty({2}, DType::int64);
  const Tensor lr_scale = Tensor::empty({1}), weight_decay = Tensor::empty({1});
  std::optional<Tensor> shadow;
  std::vector<std::pair<double, double>> before;  // parameter and gradient
  const Tensor learning_rate = Tensor::empty({}), steps = Tensor::zeros({}, DType::int64);
  Tensor norm = Tensor::empty({});
};

}  // namespace

void add_optimizer(const Model& model) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    add_case("adamw_step", model, dtype, [=] {
      const auto a = std::make_shared<Arenas>(model, dtype == DType::bfloat16);
      const double bytes = a->shadow ? 34.0 : 32.0;  // four arenas read and written
      return Case{
          {.bytes = bytes * static_cast<double>(a->size)}, [=] { a->step(); }, [=] { a->check_step(); }};
    });
  }
  add_case("gradient_norm", model, DType::float32, [=] {
    const auto a = std::make_shared<Arenas>(model);
    return Case{{.bytes = 4.0 * static_cast<double>(a->size)},
                [=] { a->norm = gradient_norm(a->gradients); },
                [=] { a->check_norm(); }};
  });
}

}  // namespace dragoman::bench
