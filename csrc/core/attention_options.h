// The options of an attention op. Python makes them as a class, and a Program keeps them as a Value.
#pragma once

#include <cstdint>
#include <optional>

#include "core/random.h"

namespace dragoman {

enum class BiasKind : int32_t { none, relative, alibi };

struct AttentionOptions {
  bool causal = false;                    // a query sees only keys up to its position
  std::optional<int64_t> window{};        // a query sees only keys at most this far from its position
  std::optional<int64_t> query_offset{};  // position of a sequence's first query; by default keys - queries
  std::optional<double> scale{};          // 1 / sqrt(head_dim) by default
  std::optional<double> score_cap{};      // scores become score_cap * tanh(score / score_cap)
  std::optional<int64_t> num_heads{};     // for q of two dimensions; q of three has its own
  BiasKind bias = BiasKind::none;         // what the op's argument `bias` holds; it is added to the scores
  bool bidirectional = true;              // relative bias: keys after the query have buckets of their own
  int64_t max_distance = 128;             // relative bias: this far and farther shares the last bucket
  Dropout dropout;                        // of the softmax's weights
  bool return_weights = false;            // forward: also write the softmax before dropout

  bool operator==(const AttentionOptions&) const = default;
};

}  // namespace dragoman
