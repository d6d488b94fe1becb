// Phrases that an output must contain, by dynamic beam allocation (Post and Vilar 2018, arXiv:1804.06609).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dragoman {

// Of each phrase: how many of its first tokens a hypothesis ends with, or all of them once it has contained
// it.
using Progress = std::vector<int32_t>;

class Constraints {
 public:
  explicit Constraints(std::vector<std::vector<int32_t>> phrases) : phrases_(std::move(phrases)) {}

  bool empty() const { return phrases_.empty(); }
  Progress begin() const { return Progress(phrases_.size(), 0); }
  Progress advanced(const Progress& progress, int32_t id) const;
  bool complete(const Progress& progress) const;
  std::vector<int32_t> wanted(const Progress& progress) const;  // tokens that would make progress, in order
  int64_t tokens(const Progress& progress) const;               // that are there: a hypothesis's bank

 private:
  std::vector<std::vector<int32_t>> phrases_;
};

// Which of the hypotheses with these banks, the best first, share a beam: the banks take turns, the one with
// the most tokens first, and in each the best comes first. In the order of the hypotheses.
std::vector<size_t> share_beam(const std::vector<int64_t>& banks, int64_t beam);

}  // namespace dragoman
