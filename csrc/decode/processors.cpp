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

bool ends_with(const std::vector<int32_t>& history, const std::vector<int32_t>& word, size_t count) {
  return count <= history.size() && std::equal(word.begin(), word.begin() + count, history.end() - count);
}

}  // namespace

void penalise_repetition(float* row, const std::vector<int32_t>& history, double penalty, double log_sum) {
  for (const int32_t id : std::set<int32_t>(history.begin(), history.end())) {
    const double value = row[id] - log_sum;
    row[id] = static_cast<float>((value > 0.0 ? value / penalty : value * penalty) + log_sum);
  }
}

bool has_masks(const SearchOptions& options) {
  return !options.suppress.empty() || !options.begin_suppress.empty() || !options.bad_words.empty() ||
         !options.allowed.empty() || options.no_repeat_ngram > 0 || options.renormalize;
}

void mask(float* row, const std::vector<int32_t>& history, int64_t written, const SearchOptions& options,
          const Vocabulary& vocabulary) {
  const auto forbid = [&](int32_t id) { row[id] = -INFINITY; };
  const auto forbid_all = [&](const std::vector<int32_t>& ids) {
    std::for_each(ids.begin(), ids.end(), forbid);
  };
  if (!options.allowed.empty()) {
    std::vector<std::pair<int32_t, float>> kept;
    for (const int32_t id : options.allowed) kept.emplace_back(id, row[id]);
    for (const int32_t id : vocabulary.ends) kept.emplace_back(id, row[id]);
    std::fill(row, row + vocabulary.size, -INFINITY);
    for (const auto& [id, value] : kept) row[id] = value;
  }
  forbid_all(options.suppress);
  if (written == static_cast<int64_t>(options.prefix.size())) forbid_all(options.begin_suppress);
  for (const std::vector<int32_t>& word : options.bad_words) {
    if (ends_with(history, word, word.size() - 1)) forbid(word.back());
  }
  if (options.no_repeat_ngram > 0) each_repeated(history, options.no_repeat_ngram, forbid);
  if (!options.renormalize) return;
  forbid_all(options.unwritten);
  if (written < options.min_length) forbid_all(vocabulary.ends);
}

}  // namespace dragoman
