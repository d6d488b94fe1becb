// Self-attention with dropout, of the encoder and (causal) of the decoder.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "harness.h"
#include "ops/attention.h"

namespace dragoman::bench {

namespace {

using Matrix = std::vector<double>;  // row after row

struct Attention {
  Attention(const Model& m, DType t, bool is_causal)
      : model(m),
        dtype(t),
        causal(is_causal),
        head_dim(m.d_model / m.num_heads),
        sequences(std::vector<int64_t>(m.sequences, m.length)),
        q(random_tensor({m.tokens(), m.num_heads, head_dim}, t)),
        k(random_tensor(q.shape(), t)),
        v(random_tensor(q.shape(), t)),
        dout(random_tensor(q.shape(), t)) {
    options.causal = causal;
    options.dropout = dropout;
  }

  void forward() {
    auto [new_out, new_logsumexp, weights] = attention_forward(q, k, v, sequences, sequences, options);
    out = new_out;
    logsumexp = new_logsumexp;
  }

  void backward() {
    std::tie(dq, dk, dv) = attention_backward(dout, q, k, v, out, logsumexp, sequences, sequences, options);
  }

  int64_t element(int64_t row, int64_t d) const { return (row * model.num_heads + head) * head_dim + d; }

  // Row i of one head of a times row j of the same head of b.
  double dot(const Tensor& a, int64_t i, const Tensor& b, int64_t j) const {
    double sum = 0.0;
    for (int64_t d = 0; d < head_dim; ++d) sum += value(a, element(i, d)) * value(b, element(j, d));
    return sum;
  }

  // Elements (i, j) of a square over the last sequence's queries and keys, 0 where the mask is.
  template <class Element>
  Matrix square(const Element& of) const {
    Matrix result(model.length * model.length);
    for (int64_t i = 0; i < model.length; ++i) {
      for (int64_t j = 0; j < (causal ? i + 1 : model.length); ++j) result[i * model.length + j] = of(i, j);
    }
    return result;
  }

  double keep(int64_t i, int64_t j) const {
    const int64_t keys = (model.length + 7) / 8 * 8;
    return factor_of(dropout, ((first + i) * model.num_heads + head) * keys + j);
  }

  Matrix softmax() const {
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    Matrix p =
        square([&](int64_t i, int64_t j) { return std::exp(scale * dot(q, first + i, k, first + j)); });
    for (int64_t i = 0; i < model.length; ++i) {
      double sum = 0.0;
      for (int64_t j = 0; j < model.length; ++j) sum += p[i * model.length + j];
      for (int64_t j = 0; j < model.length; ++j) p[i * model.length + j] /= sum;
    }
    return p;
  }

  // got = factors (transposed: factors^T) times `right`, for the last sequence and head.
  void check(const char* what, const Tensor& got, const Matrix& factors, const Tensor& right,
             bool transposed) const {
    for (int64_t i = 0; i < model.length; ++i) {
      for (int64_t d = 0; d < head_dim; ++d) {
        double sum = 0.0, magnitude = 0.0;
        for (int64_t j = 0; j < model.length; ++j) {
          const double factor = factors[transposed ? j * model.length + i : i * model.length + j];
          sum += factor * value(right, element(first + j, d));
          magnitude += std::abs(factor);
        }
        // The terms are differences of larger numbers, which are rounded: 16 times their own magnitude.
        expect_close(what, value(got, element(first + i, d)), sum, 16.0 * magnitude, dtype);
      }
    }
  }

  void check_forward() const {
    const Matrix p = softmax();
    const Matrix dropped = square([&](int64_t i, int64_t j) { return p[i * model.length + j] * keep(i, j); });
    check("attention_forward: out", out, dropped, v, false);
  }

  void check_backward() const {
    const Matrix p = softmax();
    const Matrix dropped = square([&](int64_t i, int64_t j) { return p[i * model.length + j] * keep(i, j); });
    const Matrix dp =
        square([&](int64_t i, int64_t j) { return keep(i, j) * dot(dout, first + i, v, first + j); });
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    const Matrix dscores = square([&](int64_t i, int64_t j) {
      double mean = 0.0;
      for (int64_t l = 0; l < model.length; ++l) mean += p[i * model.length + l] * dp[i * model.length + l];
      return scale * p[i * model.length + j] * (dp[i * model.length + j] - mean);
    });
    check("attention_backward: dq", dq, dscores, k, false);
    check("attention_backward: dk", dk, dscores, q, true);
    check("attention_backward: dv", dv, dropped, dout, true);
  }

  // Of one of the products of queries and keys: 2 in forward, 5 in backward, half of it where causal.
  double flop() const {
    const auto pairs =
        static_cast<double>(model.tokens() * (causal ? model.length + 1 : 2 * model.length)) / 2;
    return 2.0 * pairs * static_cast<double>(model.d_model);
  }

  const Model model;
  const DType dtype;
  const bool causal;
  const int64_t head_dim;
  const Sequences sequences;
  const Dropout dropout = make_dropout(0.1, 1, 2, 3);
  const Tensor q, k, v, dout;
  AttentionOptions options;
  const int64_t head = model.num_heads - 1, first = (model.sequences - 1) * model.length;  // what is checked
  Tensor out = q, logsumexp = q, dq = q, dk = q, dv = q;
};

}  // namespace

void add_attention(const Model& model, DType dtype) {
  for (const bool causal : {false, true}) {
    const std::string suffix = causal ? "_causal" : "";
    add_case("attention_forward" + suffix, model, dtype, [=] {
      const auto a = std::make_shared<Attention>(model, dtype, causal);
      return Case{{.flop = 2 * a->flop()}, [=] { a->forward(); }, [=] { a->check_forward(); }};
    });
    add_case("attention_backward" + suffix, model, dtype, [=] {
      const auto a = std::make_shared<Attention>(model, dtype, causal);
      a->forward();
      return Case{{.flop = 5 * a->flop()}, [=] { a->backward(); }, [=] { a->check_backward(); }};
    });
  }
}

}  // namespace dragoman::bench
