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

bool SearchOptions::forbids() const {
  return min_length > 0 || !suppress.empty() || !allowed.empty() || no_repeat_ngram > 0 ||
         !constraints.empty();
}

double normalised_score(Like like, double log_prob, int64_t length, double length_penalty) {
  if (length == 0) return log_prob;
  const double counted = static_cast<double>(length);
  return log_prob / std::pow(like == Like::dragoman ? (5.0 + counted) / 6.0 : counted, length_penalty);
}

}  // namespace dragoman
