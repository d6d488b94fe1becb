// The outputs of a request as a tree: each token knows the one before it, so hypotheses share their
// beginnings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace dragoman {

struct Hypothesis {
  std::vector<int32_t> ids;  // without the end
  double score;              // see normalised_score in options.h
  double sum_logprob;
  int64_t length;                      // tokens that the score counts, with the end
  std::vector<double> token_logprobs;  // (length,)
};

class Paths {
 public:
  // A path is the index of its last token; `none` is the path without a token.
  static constexpr int64_t none = -1;

  int64_t append(int64_t path, int32_t id, double log_prob) {
    tokens_.push_back({path, id, log_prob});
    return static_cast<int64_t>(tokens_.size()) - 1;
  }

  std::vector<int32_t> ids(int64_t path) const {
    std::vector<int32_t> found;
    for (; path != none; path = tokens_[path].before) found.push_back(tokens_[path].id);
    std::reverse(found.begin(), found.end());
    return found;
  }

  // The hypothesis of a path. `end` is the log probability of the end token that follows it, if one does.
  Hypothesis hypothesis(int64_t path, std::optional<double> end, double total, double score) const {
    std::vector<double> log_probs;
    if (end) log_probs.push_back(*end);
    for (int64_t at = path; at != none; at = tokens_[at].before) log_probs.push_back(tokens_[at].log_prob);
    std::reverse(log_probs.begin(), log_probs.end());
    const auto length = static_cast<int64_t>(log_probs.size());
    return {ids(path), score, total, length, std::move(log_probs)};
  }

 private:
  struct Token {
    int64_t before;
    int32_t id;
    double log_prob;
  };
  std::vector<Token> tokens_;
};

// Shortens `shared` to what it has in common with `ids`.
inline void keep_common(std::vector<int32_t>& shared, const std::vector<int32_t>& ids) {
  const auto end = std::mismatch(shared.begin(), shared.end(), ids.begin(), ids.end()).first;
  shared.erase(end, shared.end());
}

}  // namespace dragoman
