#include "decode/search.h"

#include "core/check.h"
#include "decode/beam_search.h"
#include "decode/errors.h"
#include "decode/sampler.h"

namespace dragoman {

void ScoredRows::check_finite(int64_t row) const {
  if (!(softmax[2 * row + 1] > 0.0f)) throw FloatingPointError("logits are not finite");
}

Search::Search(const SearchOptions& options, const Vocabulary& vocabulary)
    : options_(options), vocabulary_(vocabulary) {
  if (!options.reads_prefix_first()) return;
  for (const int32_t id : options.prefix) begin_ = paths_.append(begin_, id, 0.0);
  length_ = static_cast<int64_t>(options.prefix.size());
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
