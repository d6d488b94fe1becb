#include "decode/processors.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace dragoman {

namespace {

// Calls forbid(id) for each token that would end an n-gram of the history.
template <class Forbid>
void each_repeated(const std::vector<int32_t>& history, int64_t n, const Forbid& forbid) {
  const auto size = static_cast<int64_t>(history.size());
  for (int64_t first = 0; first + n <= size; ++first) {
    const auto begin = history.begin() + first;
    if (std::equal(begin, begin + n - 1, history.end() - (n - 1))) forbid(begin[n - 1]);
  }
}

}  // namespace

void penalise_repetition(float* row, const std::vector<int32_t>& history, double penalty, double log_sum) {
  for (const int32_t id : std::set<int32_t>(history.begin(), history.end())) {
    const double value = row[id] - log_sum;
    row[id] = static_cast<float>((value > 0.0 ? value / penalty : value * penalty) + log_sum);
  }
}

bool has_masks(const SearchOptions& options) {
  return !options.suppress.empty() || !options.allowed.empty() || options.no_repeat_ngram > 0;
}

void mask(float* row, const std::vector<int32_t>& history, const SearchOptions& options,
          const Vocabulary& vocabulary) {
  const auto forbid = [&](int32_t id) { row[id] = -INFINITY; };
  if (!options.allowed.empty()) {
    std::vector<std::pair<int32_t, float>> kept;
    for (const int32_t id : options.allowed) kept.emplace_back(id, row[id]);
    for (const int32_t id : vocabulary.ends) kept.emplace_back(id, row[id]);
    std::fill(row, row + vocabulary.size, -INFINITY);
    for (const auto& [id, value] : kept) row[id] = value;
  }
  for (const int32_t id : options.suppress) forbid(id);
  if (options.no_repeat_ngram > 0) each_repeated(history, options.no_repeat_ngram, forbid);
}

}  // namespace dragoman
