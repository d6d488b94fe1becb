// One step of beam search: a row appended for every hypothesis, then the slots in a new order.
#include <memory>

#include "harness.h"
#include "ops/kv_cache.h"

namespace dragoman::bench {

namespace {

struct Cache {
  explicit Cache(const Model& m)
      : slot(m.length),
        features(m.d_model),
        held(Sequences::slotted(std::vector<int64_t>(m.sequences, m.length / 2), slot)),
        cache(random_tensor({m.sequences * slot, features})),
        rows(random_tensor({m.sequences, features})),
        indices(random_ids(m.sequences, m.sequences)),
        added(std::vector<int64_t>(m.sequences, 1)) {}

  void append() { kv_cache_append(cache, rows, added, held); }
  void reorder() { reordered = kv_cache_reorder(cache, indices, slot); }

  void check_append() const {
    for (int64_t i = 0; i < rows.numel(); ++i) {
      const int64_t row = i / features * slot + held.max_length() - 1;
      expect_close("kv_cache_append", value(cache, row * features + i % features), value(rows, i), 0.0,
                   rows.dtype());
    }
  }

  void check_reorder() const {
    const int64_t size = slot * features;
    for (int64_t i = 0; i < reordered.numel(); ++i) {
      const int64_t from = indices.data<int32_t>()[i / size] * size + i % size;
      expect_close("kv_cache_reorder", value(reordered, i), value(cache, from), 0.0, cache.dtype());
    }
  }

  const int64_t slot, features;
  const Sequences held;
  const Tensor cache, rows, indices;
  const Sequences added;
  Tensor reordered = cache;
};

}  // namespace

void add_kv_cache(const Model& model) {
  add_case("kv_cache_append", model, DType::float32, [=] {
    const auto c = std::make_shared<Cache>(model);
    return Case{{.bytes = 2.0 * static_cast<double>(c->rows.nbytes())},
                [=] { c->append(); },
                [=] { c->check_append(); }};
  });
  add_case("kv_cache_reorder", model, DType::float32, [=] {
    const auto c = std::make_shared<Cache>(model);
    return Case{{.bytes = 2.0 * static_cast<double>(c->cache.nbytes())},
                [=] { c->reorder(); },
                [=] { c->check_reorder(); }};
  });
}

}  // namespace dragoman::bench
