// Phrases that an output must contain, by dynamic beam allocation (Post and Vilar 2018, arXiv:1804.06609).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dragoman {

// How far a hypothesis is with each phrase, (phrases,): the number of the phrase's first tokens that the
// hypothesis ends with. Once it has contained the whole phrase, the number stays at the phrase's length.
using Progress = std::vector<int32_t>;

class Constraints {
 public:
  explicit Constraints(std::vector<std::vector<int32_t>> phrases) : phrases_(std::move(phrases)) {}

  bool empty() const { return phrases_.empty(); }
  Progress begin() const { return Progress(phrases_.size(), 0); }
  Progress advanced(const Progress& progress, int32_t id) const;
  bool complete(const Progress& progress) const;
  std::vector<int32_t> wanted(const Progress& progress) const;  // tokens that would make progress, in order
  // Tokens of the phrases that are there already, in all. Hypotheses with the same number form a bank.
  int64_t tokens(const Progress& progress) const;

 private:
  std::vector<std::vector<int32_t>> phrases_;
};

// Chooses at most `beam` hypotheses. banks[i] is the bank of hypothesis i; the best hypothesis comes first.
// The banks take turns, beginning with the one that has most tokens, and each gives its best hypothesis that
// is left. Returns indices in rising order.
std::vector<size_t> share_beam(const std::vector<int64_t>& banks, int64_t beam);

}  // namespace dragoman
