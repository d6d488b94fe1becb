#include <cmath>
#include <memory>

#include "harness.h"
#include "ops/embedding.h"

namespace dragoman::bench {

namespace {

struct Embedding {
  Embedding(const Model& m, DType t)
      : dtype(t),
        features(m.d_model),
        scale(std::sqrt(static_cast<double>(features))),
        sequences(std::vector<int64_t>(m.sequences, m.length)),
        ids(random_ids(m.tokens(), m.vocabulary)),
        weight(random_tensor({m.vocabulary, features})),
        positions(random_tensor({m.length, features})),
        dy(random_tensor({m.tokens(), features}, t)) {}

  void forward() {
    y = embedding_forward(ids, weight, positions, std::nullopt, scale, dropout, sequences, name(dtype));
  }

  void backward() {
    embedding_backward(dy, ids, std::nullopt, scale, dropout, sequences, dweight, false, std::nullopt, false);
  }

  void check_forward() const {
    for (int64_t i = 0; i < y.numel(); i += 7) {
      const int64_t row = i / features, feature = i % features;
      const double embedded = value(weight, ids.data<int32_t>()[row] * features + feature) * scale;
      const double position = value(positions, row % positions.dim(0) * features + feature);
      expect_close("embedding_forward: y", value(y, i), (embedded + position) * factor_of(dropout, i),
                   2.0 * scale, dtype);
    }
  }

  void check_backward() const {
    std::vector<double> expected(dweight.numel());
    for (int64_t i = 0; i < dy.numel(); ++i) {
      expected[ids.data<int32_t>()[i / features] * features + i % features] +=
          value(dy, i) * scale * factor_of(dropout, i);
    }
    for (int64_t i = 0; i < dweight.numel(); ++i) {
      expect_close("embedding_backward: dweight", value(dweight, i), expected[i], 4.0 * scale,
                   DType::float32);
    }
  }

  const DType dtype;
  const int64_t features;
  const double scale;
  const Sequences sequences;
  const Dropout dropout = make_dropout(0.1, 1, 2, 3);
  const Tensor ids, weight, positions, dy;
  const Tensor dweight = Tensor::empty(weight.shape());
  Tensor y = dy;
};

}  // namespace

void add_embedding(const Model& model, DType dtype) {
  add_case("embedding_forward", model, dtype, [=] {
    const auto e = std::make_shared<Embedding>(model, dtype);
    const auto gathered = static_cast<double>(e->dy.numel() * 4);  // rows of the float32 table
    return Case{{.bytes = gathered + static_cast<double>(e->y.nbytes())},
                [=] { e->forward(); },
                [=] { e->check_forward(); }};
  });
  add_case("embedding_backward", model, dtype, [=] {
    const auto e = std::make_shared<Embedding>(model, dtype);
    return Case{{.bytes = static_cast<double>(e->dy.nbytes() + e->dweight.nbytes())},
                [=] { e->backward(); },
                [=] { e->check_backward(); }};
  });
}

}  // namespace dragoman::bench
