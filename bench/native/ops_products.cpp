// The matrix products of linear layers: forward and both gradients, and forward with a packed weight, of few
// rows or in int8. Packing counts where it is part of the product.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "harness.h"
#include "ops/frozen.h"
#include "ops/linear.h"

namespace dragoman::bench {

namespace {

// c (m, n) = a b. Element (i, l) of a is a[l * m + i] if transpose_a; (l, j) of b is b[j * k + l] if
// transpose_b.
struct Product {
  int64_t m, n, k;
  Tensor a, b;
  bool transpose_a, transpose_b;
};

// Sampled elements against float64: within the rounding of a float32 sum and of c's type.
void check(const Product& p, const Tensor& c) {
  std::mt19937 generator(2);
  const double rounding = c.dtype() == DType::bfloat16 ? 1.0 / 256 : 0.0;
  for (int sample = 0; sample < 200; ++sample) {
    const int64_t i = generator() % p.m, j = generator() % p.n;
    double sum = 0.0, magnitude = 0.0;
    for (int64_t l = 0; l < p.k; ++l) {
      const double term = value(p.a, p.transpose_a ? l * p.m + i : i * p.k + l) *
                          value(p.b, p.transpose_b ? j * p.k + l : l * p.n + j);
      sum += term;
      magnitude += std::abs(term);
    }
    const double got = value(c, i * p.n + j);
    if (std::abs(got - sum) <= 1e-6 * magnitude + rounding * std::abs(sum)) continue;
    std::fprintf(stderr, "product of %lld x %lld x %lld: got %g, expected %g\n", static_cast<long long>(p.m),
                 static_cast<long long>(p.k), static_cast<long long>(p.n), got, sum);
    std::exit(1);
  }
}

Case case_of(const Product& product, const std::function<Tensor()>& run) {
  const auto result = std::make_shared<Tensor>(product.a);
  const double flop = 2.0 * static_cast<double>(product.m * product.n) * static_cast<double>(product.k);
  return {{.flop = flop}, [=] { *result = run(); }, [=] { check(product, *result); }};
}

Tensor forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& packed) {
  return std::get<0>(linear_forward(x, weight, std::nullopt, "none", Dropout(), std::nullopt, packed));
}

std::optional<Tensor> backward(const Tensor& dy, const Tensor& x, const Tensor& weight, bool need_dx,
                               const std::optional<Tensor>& dweight) {
  return linear_backward(dy, x, weight, std::nullopt, "none", Dropout(), need_dx, dweight, false,
                         std::nullopt, false, std::nullopt);
}

// From -127 to 127, both in every row of at least two: int8 holds them as they are.
Tensor whole_numbers(const Shape& shape) {
  const Tensor bytes = random_tensor(shape, DType::int8), x = Tensor::empty(shape);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float value = std::max<float>(bytes.data<int8_t>()[i], -127.0f);
    x.data<float>()[i] = i % shape[1] < 2 ? (i % shape[1] == 0 ? 127.0f : -127.0f) : value;
  }
  return x;
}

Tensor ones_of(int64_t size) {
  const Tensor ones = Tensor::empty({size});
  std::fill_n(ones.data<float>(), size, 1.0f);
  return ones;
}

// y (rows, out) = x (rows, in) weight (out, in)^T.
void add_linear(const Model& model, DType dtype, int64_t rows, int64_t in, int64_t out) {
  const auto title = [=](const char* op) { return concat(op, " ", rows, "x", in, "x", out); };
  if (dtype == DType::int8) {
    add_case(title("frozen_linear"), model, dtype, [=] {
      const Tensor x = whole_numbers({rows, in}), weight = random_tensor({out, in}, dtype),
                   ones = ones_of(out);
      const Tensor packed = *pack_weight(weight);
      return case_of({rows, out, in, x, weight, false, true}, [=] {
        return frozen_linear(x, packed, "int8", weight.shape(), ones, std::nullopt, "none", std::nullopt);
      });
    });
    return;
  }
  add_case(title("linear_forward"), model, dtype, [=] {
    const Tensor x = random_tensor({rows, in}, dtype), weight = random_tensor({out, in}, dtype);
    return case_of({rows, out, in, x, weight, false, true}, [=] { return forward(x, weight, std::nullopt); });
  });
  if (rows != model.tokens()) {
    add_case(title("linear_forward_packed"), model, dtype, [=] {
      const Tensor x = random_tensor({rows, in}, dtype), weight = random_tensor({out, in}, dtype);
      const std::optional<Tensor> packed = pack_weight(weight);
      return case_of({rows, out, in, x, weight, false, true}, [=] { return forward(x, weight, packed); });
    });
    return;
  }
  add_case(title("linear_dx"), model, dtype, [=] {
    const Tensor dy = random_tensor({rows, out}, dtype), weight = random_tensor({out, in}, dtype);
    const Tensor x = random_tensor({rows, in}, dtype);
    return case_of({rows, in, out, dy, weight, false, false},
                   [=] { return *backward(dy, x, weight, true, std::nullopt); });
  });
  add_case(title("linear_dweight"), model, dtype, [=] {
    const Tensor dy = random_tensor({rows, out}, dtype), weight = random_tensor({out, in}, dtype);
    const Tensor x = random_tensor({rows, in}, dtype), dweight = Tensor::empty({out, in});
    return case_of({out, in, rows, dy, x, true, false}, [=] {
      backward(dy, x, weight, false, dweight);
      return dweight;
    });
  });
}

}  // namespace

void add_products(const Model& model, DType dtype) {
  add_linear(model, dtype, model.tokens(), model.d_model, model.d_model);
  add_linear(model, dtype, model.tokens(), model.d_model, model.d_ff);
  add_linear(model, dtype, model.tokens(), model.d_ff, model.d_model);
  add_linear(model, dtype, model.tokens(), model.d_model, model.vocabulary);
  for (const int64_t rows : {1, 4, 16})
    add_linear(model, dtype, rows, model.d_model, model.d_ff);  // decoding
}

}  // namespace dragoman::bench
