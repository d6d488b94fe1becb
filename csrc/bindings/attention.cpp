// AttentionOptions and KVCache as Python classes.
#include "core/attention_options.h"

#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "core/check.h"
#include "core/kv_cache.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

namespace {

BiasKind parse_bias(const std::string& text) {
  if (text == "none") return BiasKind::none;
  if (text == "relative") return BiasKind::relative;
  if (text == "alibi") return BiasKind::alibi;
  throw ValueError(concat("attention: bias must be none, relative or alibi, got ", text));
}

}  // namespace

void bind_attention(py::module_& m) {
  py::class_<AttentionOptions>(m, "AttentionOptions", "What an attention computes beside its tensors.")
      .def(py::init([](bool causal, std::optional<int64_t> window, std::optional<int64_t> query_offset,
                       std::optional<double> scale, std::optional<double> score_cap,
                       std::optional<int64_t> num_heads, const std::string& bias, bool bidirectional,
                       int64_t max_distance, const Dropout& dropout, bool return_weights) {
             return AttentionOptions{causal,       window,    query_offset,     scale,
                                     score_cap,    num_heads, parse_bias(bias), bidirectional,
                                     max_distance, dropout,   return_weights};
           }),
           py::kw_only(), "causal"_a = false, "window"_a = py::none(), "query_offset"_a = py::none(),
           "scale"_a = py::none(), "score_cap"_a = py::none(), "num_heads"_a = py::none(), "bias"_a = "none",
           "bidirectional"_a = true, "max_distance"_a = 128, "dropout"_a = Dropout(),
           "return_weights"_a = false);

  py::class_<KVCache, std::shared_ptr<KVCache>>(
      m, "KVCache", "Keys and values of past tokens and of the memory, for every attention of a decoder.")
      .def(py::init([](int64_t num_sequences, const std::string& dtype) {
             return std::make_shared<KVCache>(num_sequences, parse_activation_dtype("KVCache", dtype));
           }),
           "num_sequences"_a, "dtype"_a = "float32")
      .def_property_readonly("lengths",
                             [](const KVCache& cache) {
                               const KVCache::Use use(cache);
                               return cache.places().lengths();
                             })
      .def(
          "has_memory",
          [](const KVCache& cache, int64_t attention) {
            const KVCache::Use use(cache);
            return cache.memory.contains(attention);
          },
          "attention"_a)
      .def_property_readonly("has_sources", [](const KVCache& cache) {
        const KVCache::Use use(cache);
        return cache.sources().has_value();
      });
}

}  // namespace dragoman
