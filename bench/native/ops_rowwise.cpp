// layer_norm, residual, their fusion, dropout, activations and casts.
#include <algorithm>
#include <cmath>
#include <memory>

#include "harness.h"
#include "ops/activation.h"
#include "ops/dropout.h"
#include "ops/elementwise.h"
#include "ops/norm.h"
#include "ops/residual.h"

namespace dragoman::bench {

namespace {

constexpr double eps = 1e-5;

double bytes_of(std::initializer_list<const Tensor*> tensors) {
  double sum = 0.0;
  for (const Tensor* tensor : tensors) sum += static_cast<double>(tensor->nbytes());
  return sum;
}

// Every `stride`-th element, so that a check takes no longer than the benchmark.
template <class Check>
void each_sample(const Tensor& tensor, const Check& check) {
  constexpr int64_t stride = 101;
  for (int64_t i = 0; i < tensor.numel(); i += stride) check(i);
}

struct LayerNorm {
  LayerNorm(const Model& m, DType t)
      : rows(m.tokens()),
        features(m.d_model),
        dtype(t),
        x(random_tensor({rows, features}, t)),
        dy(random_tensor({rows, features}, t)),
        weight(random_tensor({features})),
        bias(random_tensor({features})) {
    forward();
  }

  void forward() { std::tie(y, mean, rstd) = layer_norm_forward(x, weight, bias, eps, std::nullopt); }

  void backward() {
    dx = layer_norm_backward(dy, x, weight, mean, rstd, dweight, false, dbias, false, std::nullopt);
  }

  // (x - mean) / sqrt(var + eps) of a row, and that factor.
  double normalized(int64_t row, std::vector<double>& result) const {
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < features; ++i) sum += value(x, row * features + i);
    result.resize(features);
    for (int64_t i = 0; i < features; ++i) {
      result[i] = value(x, row * features + i) - sum / static_cast<double>(features);
      squares += result[i] * result[i];
    }
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(features) + eps);
    for (double& element : result) element *= factor;
    return factor;
  }

  void check_forward() const {
    std::vector<double> n;
    for (int64_t row = 0; row < rows; row += 13) {
      normalized(row, n);
      for (int64_t i = 0; i < features; ++i) {
        const double expected = n[i] * value(weight, i) + value(bias, i);
        expect_close("layer_norm_forward: y", value(y, row * features + i), expected, std::abs(n[i]) + 1.0,
                     dtype);
      }
    }
  }

  void check_backward() const {
    std::vector<double> n, dweight_sum(features), dbias_sum(features);
    for (int64_t row = 0; row < rows; ++row) {
      const double factor = normalized(row, n);
      double mean_dn = 0.0, mean_product = 0.0;
      for (int64_t i = 0; i < features; ++i) {
        const double dy_i = value(dy, row * features + i), dn = dy_i * value(weight, i);
        mean_dn += dn / static_cast<double>(features);
        mean_product += dn * n[i] / static_cast<double>(features);
        dweight_sum[i] += dy_i * n[i];
        dbias_sum[i] += dy_i;
      }
      for (int64_t i = row % 13; i < features; i += 13) {
        const double dn = value(dy, row * features + i) * value(weight, i);
        const double expected = factor * (dn - mean_dn - n[i] * mean_product);
        expect_close("layer_norm_backward: dx", value(dx, row * features + i), expected, factor * 4.0, dtype);
      }
    }
    for (int64_t i = 0; i < features; ++i) {
      const auto magnitude = static_cast<double>(rows);
      expect_close("layer_norm_backward: dweight", value(dweight, i), dweight_sum[i], magnitude,
                   DType::float32);
      expect_close("layer_norm_backward: dbias", value(dbias, i), dbias_sum[i], magnitude, DType::float32);
    }
  }

  const int64_t rows, features;
  const DType dtype;
  Tensor x;
  const Tensor dy, weight, bias;
  const Tensor dweight = Tensor::empty({features}), dbias = Tensor::empty({features});
  Tensor y = x, mean = x, rstd = x, dx = x;
};

struct ResidualNorm : LayerNorm {  // of x = residual + dropout(branch)
  ResidualNorm(const Model& m, DType t)
      : LayerNorm(m, t), branch(random_tensor(x.shape(), t)), residual(random_tensor(x.shape(), t)) {
    forward();
  }

  void forward() {
    std::optional<Tensor> row_mean;
    std::tie(y, x, row_mean, rstd) =
        residual_norm_forward(branch, residual, weight, bias, dropout, eps, true, std::nullopt);
    mean = *row_mean;
  }

  void backward() {
    std::tie(dbranch, dx) = residual_norm_backward(dy, x, weight, mean, rstd, dropout, dweight, false, dbias,
                                                   false, std::nullopt);
  }

  void check_forward() const {
    each_sample(x, [&](int64_t i) {
      const double sum = value(residual, i) + value(branch, i) * factor_of(dropout, i);
      expect_close("residual_norm_forward: sum", value(x, i), sum, 2.0, dtype);
    });
    LayerNorm::check_forward();
  }

  void check_backward() const {
    LayerNorm::check_backward();
    each_sample(dbranch, [&](int64_t i) {
      expect_close("residual_norm_backward: dx", value(dbranch, i), value(dx, i) * factor_of(dropout, i), 4.0,
                   dtype);
    });
  }

  const Dropout dropout = make_dropout(0.1, 1, 2, 3);
  const Tensor branch, residual;
  Tensor dbranch = x;
};

struct Masked {  // dropout and residual
  Masked(const Model& m, DType t)
      : x(random_tensor({m.tokens(), m.d_model}, t)), residual(random_tensor(x.shape(), t)) {}

  void check(const char* what, bool adds) const {
    each_sample(y, [&](int64_t i) {
      const double expected = (adds ? value(residual, i) : 0.0) + value(x, i) * factor_of(dropout, i);
      expect_close(what, value(y, i), expected, 2.0, x.dtype());
    });
  }

  const Dropout dropout = make_dropout(0.1, 1, 2, 3);
  const Tensor x, residual;
  Tensor y = x;
};

struct Pointwise {
  Pointwise(const Model& m, DType t)
      : x(random_tensor({m.tokens(), m.d_ff}, t)), dy(random_tensor(x.shape(), t)) {}

  void check(const std::string& activation, bool is_forward) const {
    each_sample(result, [&](int64_t i) {
      const double at = value(x, i), cdf = 0.5 * std::erfc(-at / std::sqrt(2.0));
      const double density = std::exp(-0.5 * at * at) / std::sqrt(2.0 * M_PI);
      const bool relu = activation == "relu";
      const double y = relu ? std::max(at, 0.0) : at * cdf;
      const double derivative = relu ? at > 0.0 : cdf + at * density;
      const double expected = is_forward ? y : value(dy, i) * derivative;
      expect_close(activation.c_str(), value(result, i), expected, 1.0, x.dtype());
    });
  }

  const Tensor x, dy;
  Tensor result = x;
};

}  // namespace

void add_rowwise(const Model& model, DType dtype) {
  add_case("cast", model, dtype, [=] {
    const DType from = dtype == DType::float32 ? DType::bfloat16 : DType::float32;
    const auto p = std::make_shared<Pointwise>(model, from);
    const auto y = std::make_shared<Tensor>(Tensor::empty(p->x.shape(), dtype));
    return Case{{.bytes = bytes_of({&p->x, y.get()})},
                [=] { *y = cast(p->x, name(dtype)); },
                [=] {
                  each_sample(
                      *y, [&](int64_t i) { expect_close("cast", value(*y, i), value(p->x, i), 0.5, dtype); });
                }};
  });
  add_case("layer_norm_forward", model, dtype, [=] {
    const auto n = std::make_shared<LayerNorm>(model, dtype);
    return Case{{.bytes = bytes_of({&n->x, &n->y})}, [=] { n->forward(); }, [=] { n->check_forward(); }};
  });
  add_case("layer_norm_backward", model, dtype, [=] {
    const auto n = std::make_shared<LayerNorm>(model, dtype);
    return Case{
        {.bytes = bytes_of({&n->x, &n->dy, &n->dx})}, [=] { n->backward(); }, [=] { n->check_backward(); }};
  });
  add_case("dropout_forward", model, dtype, [=] {
    const auto m = std::make_shared<Masked>(model, dtype);
    return Case{{.bytes = bytes_of({&m->x, &m->y})},
                [=] { m->y = dropout_forward(m->x, m->dropout, std::nullopt); },
                [=] { m->check("dropout_forward", false); }};
  });
  add_case("residual_forward", model, dtype, [=] {
    const auto m = std::make_shared<Masked>(model, dtype);
    return Case{{.bytes = bytes_of({&m->x, &m->residual, &m->y})},
                [=] { m->y = residual_forward(m->x, m->residual, m->dropout, std::nullopt); },
                [=] { m->check("residual_forward", true); }};
  });
  add_case("residual_norm_forward", model, dtype, [=] {
    const auto n = std::make_shared<ResidualNorm>(model, dtype);
    return Case{{.bytes = bytes_of({&n->branch, &n->residual, &n->x, &n->y})},
                [=] { n->forward(); },
                [=] { n->check_forward(); }};
  });
  add_case("residual_norm_backward", model, dtype, [=] {
    const auto n = std::make_shared<ResidualNorm>(model, dtype);
    return Case{{.bytes = bytes_of({&n->dy, &n->x, &n->dx, &n->dbranch})},
                [=] { n->backward(); },
                [=] { n->check_backward(); }};
  });
  for (const std::string activation : {"relu", "gelu"}) {
    add_case(activation + "_forward", model, dtype, [=] {
      const auto p = std::make_shared<Pointwise>(model, dtype);
      return Case{{.bytes = bytes_of({&p->x, &p->result})},
                  [=] { p->result = activation_forward(p->x, activation, std::nullopt); },
                  [=] { p->check(activation, true); }};
    });
    add_case(activation + "_backward", model, dtype, [=] {
      const auto p = std::make_shared<Pointwise>(model, dtype);
      return Case{{.bytes = bytes_of({&p->x, &p->dy, &p->result})},
                  [=] { p->result = activation_backward(p->dy, p->x, activation, std::nullopt); },
                  [=] { p->check(activation, false); }};
    });
  }
}

}  // namespace dragoman::bench
