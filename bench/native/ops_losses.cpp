// cross_entropy of ready logits, and linear_cross_entropy with all of its gradients; label smoothing 0.1.
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "harness.h"
#include "ops/cross_entropy.h"

namespace dragoman::bench {

namespace {

constexpr double smoothing = 0.1;

// Of one row of logits: its loss, and in `gradient` softmax - target.
double row_loss(const std::vector<double>& logits, int32_t id, std::vector<double>& gradient) {
  const auto vocabulary = static_cast<double>(logits.size());
  double sum = 0.0, mean = 0.0;
  for (const double logit : logits) {
    sum += std::exp(logit);
    mean += logit / vocabulary;
  }
  gradient.resize(logits.size());
  for (size_t j = 0; j < logits.size(); ++j) gradient[j] = std::exp(logits[j]) / sum - smoothing / vocabulary;
  gradient[id] -= 1.0 - smoothing;
  return std::log(sum) - (1.0 - smoothing) * logits[id] - smoothing * mean;
}

// A logit as a tensor of the dtype holds it; bfloat16 to the nearest, ties to even.
double rounded(double logit, DType dtype) {
  const auto element = static_cast<float>(logit);
  if (dtype != DType::bfloat16) return element;
  const auto bits = std::bit_cast<uint32_t>(element);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
}

struct CrossEntropy {
  CrossEntropy(const Model& m, DType t)
      : rows(m.tokens()),
        vocabulary(m.vocabulary),
        ids(random_ids(rows, vocabulary)),
        logits(random_tensor({rows, vocabulary}, t)) {
    run();
  }

  void run() {
    auto [new_loss, softmax, new_dlogits] =
        cross_entropy_forward(logits, ids, smoothing, std::nullopt, true, std::nullopt);
    loss = new_loss, dlogits = *new_dlogits;
  }

  double truth_of_row(int64_t row, std::vector<double>& gradient) const {
    std::vector<double> logits_row(vocabulary);
    for (int64_t j = 0; j < vocabulary; ++j) logits_row[j] = value(logits, row * vocabulary + j);
    return row_loss(logits_row, ids.data<int32_t>()[row], gradient);
  }

  void check() const {
    std::vector<double> gradient;
    double sum = 0.0;
    for (int64_t row = 0; row < rows; ++row) {
      sum += truth_of_row(row, gradient);
      if (row % 101 != 0) continue;
      for (int64_t j = 0; j < vocabulary; ++j) {
        const double expected = gradient[j] / static_cast<double>(rows);
        const double magnitude =
            (std::abs(gradient[j]) + 0.1 / static_cast<double>(vocabulary)) / static_cast<double>(rows);
        expect_close("cross_entropy: dlogits", value(dlogits, row * vocabulary + j), expected, magnitude,
                     logits.dtype());
      }
    }
    const double expected = sum / static_cast<double>(rows);
    expect_close("cross_entropy: loss", value(loss, 0), expected, expected, DType::float32);
  }

  const int64_t rows, vocabulary;
  const Tensor ids, logits;
  Tensor loss = ids, dlogits = ids;
};

struct LinearCrossEntropy {
  LinearCrossEntropy(const Model& m, DType t)
      : rows(m.tokens()),
        features(m.d_model),
        vocabulary(m.vocabulary),
        ids(random_ids(rows, vocabulary)),
        x(random_tensor({rows, features}, t)),
        weight(random_tensor({vocabulary, features}, t)) {
    // Small logits, so that no row is decided by a few words.
    for (int64_t i = 0; i < x.numel(); i += 2) clear(x, i);
  }

  static void clear(const Tensor& tensor, int64_t element) {
    if (tensor.dtype() == DType::bfloat16) {
      tensor.data<bfloat16>()[element] = {0};
    } else {
      tensor.data<float>()[element] = 0.0f;
    }
  }

  void run() {
    auto [new_loss, new_dx, new_dweight, dbias] = linear_cross_entropy_forward(
        x, weight, std::nullopt, ids, smoothing, std::nullopt, true, true, false, std::nullopt);
    loss = new_loss;
    dx = *new_dx;
    dweight = *new_dweight;
  }

  // dx of a few rows; their losses make no claim on the mean, which all rows share, so logits are tested by
  // dx.
  void check() const {
    std::vector<double> logits(vocabulary), gradient;
    for (int64_t row = 0; row < rows; row += rows / 3) {
      for (int64_t j = 0; j < vocabulary; ++j) {
        logits[j] = 0.0;
        for (int64_t l = 0; l < features; ++l) {
          logits[j] += value(x, row * features + l) * value(weight, j * features + l);
        }
        logits[j] = rounded(logits[j], x.dtype());
      }
      row_loss(logits, ids.data<int32_t>()[row], gradient);
      for (int64_t l = 0; l < features; ++l) {
        double sum = 0.0, magnitude = 0.0;
        for (int64_t j = 0; j < vocabulary; ++j) {
          sum += gradient[j] * value(weight, j * features + l);
          magnitude += std::abs(gradient[j]);
        }
        const auto count = static_cast<double>(rows);
        expect_close("linear_cross_entropy: dx", value(dx, row * features + l), sum / count,
                     magnitude / count, x.dtype());
      }
    }
  }

  const int64_t rows, features, vocabulary;
  const Tensor ids, x, weight;
  Tensor loss = ids, dx = ids, dweight = ids;
};

}  // namespace

void add_losses(const Model& model, DType dtype) {
  add_case("cross_entropy", model, dtype, [=] {
    const auto c = std::make_shared<CrossEntropy>(model, dtype);
    return Case{
        {.bytes = 2.0 * static_cast<double>(c->logits.nbytes())}, [=] { c->run(); }, [=] { c->check(); }};
  });
  add_case("linear_cross_entropy", model, dtype, [=] {
    const auto c = std::make_shared<LinearCrossEntropy>(model, dtype);
    const auto products = static_cast<double>(3 * c->rows * c->features * c->vocabulary);
    return Case{{.flop = 2.0 * products}, [=] { c->run(); }, [=] { c->check(); }};
  });
}

}  // namespace dragoman::bench
