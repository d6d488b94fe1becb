#include "decode/options.h"

#include <cmath>

#include "core/check.h"

namespace dragoman {

Like parse_like(const std::string& text) {
  if (text == "dragoman") return Like::dragoman;
  if (text == "marian") return Like::marian;
  if (text == "fairseq") return Like::fairseq;
  if (text == "hf") return Like::hf;
  throw ValueError(concat("like must be one of dragoman, marian, fairseq, hf, got ", text));
}

EarlyStopping parse_early_stopping(const std::string& text) {
  if (text == "no") return EarlyStopping::no;
  if (text == "yes") return EarlyStopping::yes;
  if (text == "never") return EarlyStopping::never;
  throw ValueError(concat("early_stopping must be one of no, yes, never, got ", text));
}

bool SearchOptions::forbids() const {
  return min_length > 0 || !suppress.empty() || !begin_suppress.empty() || !bad_words.empty() ||
         !allowed.empty() || no_repeat_ngram > 0 || !constraints.empty();
}

bool SearchOptions::reads_allowed_alone() const {
  if (allowed.empty() || !renormalize) return false;
  // These read the probability of a token among all.
  const bool scores_prefix = !prefix.empty() && !reads_prefix_first();
  const bool penalises_probability = repetition_penalty != 1.0 && like == Like::hf;
  return !scores_prefix && !penalises_probability;
}

double normalised_score(Like like, double log_prob, int64_t length, double length_penalty) {
  if (length == 0) return log_prob;
  const double counted = static_cast<double>(length);
  return log_prob / std::pow(like == Like::dragoman ? (5.0 + counted) / 6.0 : counted, length_penalty);
}

}  // namespace dragoman
