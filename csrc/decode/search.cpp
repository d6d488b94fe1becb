#include "decode/search.h"

#include "core/check.h"
#include "decode/beam_search.h"
#include "decode/errors.h"
#include "decode/sampler.h"

namespace dragoman {

void ScoredRows::check_finite(int64_t row) const {
  if (!(softmax[2 * row + 1] > 0.0f)) throw FloatingPointError("logits are not finite");
}

std::optional<int32_t> Search::forced() const {
  if (in_prefix()) return options_.prefix[length_];
  if (length_ + 1 == options_.limit) return options_.forced_last;
  return std::nullopt;
}

void no_token_left(const SearchOptions& options) {
  CHECK(!options.forbids(), "the options leave no token that may be chosen");
  throw FloatingPointError("logits are not finite");
}

std::unique_ptr<Search> make_search(const SearchOptions& options, const Vocabulary& vocabulary) {
  if (options.temperature > 0.0) return std::make_unique<Sampler>(options, vocabulary);
  return std::make_unique<BeamSearch>(options, vocabulary);
}

}  // namespace dragoman
