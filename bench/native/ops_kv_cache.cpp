// One step of beam search: a row appended for every hypothesis, then the slots in a new order.
#include <memory>

#include "harness.h"
#include "ops/kv_cache.h"

namespace dragoman::bench {

namespace {

struct Cache {
  explicit Cache(const Model& m)
      : model(m),
        features(m.d_model),
        rows(random_tensor({m.sequences, features})),
        indices(random_ids(m.sequences, m.sequences)),
        added(std::vector<int64_t>(m.sequences, 1)) {
    const Sequences half(std::vector<int64_t>(m.sequences, m.length / 2));
    const Tensor past = random_tensor({half.tokens(), features});
    kv_cache_extend(cache, half);
    kv_cache_append(cache, 0, past, past, half);
  }

  // The last row again and again: the cache stays as long as it is.
  void append() { kv_cache_append(cache, 0, rows, rows, added); }
  void reorder() {
    before = cache->read();
    kv_cache_reorder(cache, indices);
  }

  void check_append() const {
    const Tensor& keys = cache->decoded.at(0).k;
    for (int64_t i = 0; i < rows.numel(); ++i) {
      const int64_t row = cache->own().offsets()[i / features] + model.length / 2 - 1;
      expect_close("kv_cache_append", value(keys, row * features + i % features), value(rows, i), 0.0,
                   rows.dtype());
    }
  }

  void check_reorder() const {
    const Tensor& keys = cache->decoded.at(0).k;
    for (int64_t sequence = 0; sequence < model.sequences; ++sequence) {
      const int64_t parent = indices.data<int32_t>()[sequence];
      for (int64_t row = 0; row < model.length / 2; ++row) {
        const int64_t to = row_of(cache->read(), sequence, row), from = row_of(before, parent, row);
        expect_close("kv_cache_reorder", value(keys, to * features), value(keys, from * features), 0.0,
                     keys.dtype());
      }
    }
  }

  static int64_t row_of(const Sequences& sequences, int64_t sequence, int64_t row) {
    const int64_t at = sequences.offsets()[sequence] + row;
    return sequences.is_indexed() ? (*sequences.index())[at] : at;
  }

  double bytes_in_use() const { return 2.0 * static_cast<double>(rows.nbytes() * (model.length / 2)); }

  const Model model;
  const int64_t features;
  const std::shared_ptr<KVCache> cache = std::make_shared<KVCache>(model.sequences);
  const Tensor rows, indices;
  const Sequences added;
  Sequences before = added;
};

}  // namespace

void add_kv_cache(const Model& model) {
  add_case("kv_cache_append", model, DType::float32, [=] {
    const auto c = std::make_shared<Cache>(model);
    return Case{{.bytes = 4.0 * static_cast<double>(c->rows.nbytes())},
                [=] { c->append(); },
                [=] { c->check_append(); }};
  });
  add_case("kv_cache_reorder", model, DType::float32, [=] {
    const auto c = std::make_shared<Cache>(model);
    return Case{{.bytes = 2.0 * c->bytes_in_use()}, [=] { c->reorder(); }, [=] { c->check_reorder(); }};
  });
}

}  // namespace dragoman::bench
