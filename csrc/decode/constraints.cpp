#include "decode/constraints.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>

namespace dragoman {

Progress Constraints::advanced(const Progress& progress, int32_t id) const {
  Progress next = progress;
  for (size_t i = 0; i < phrases_.size(); ++i) {
    const std::vector<int32_t>& phrase = phrases_[i];
    const auto size = static_cast<int32_t>(phrase.size());
    if (progress[i] == size) continue;
    // The longest beginning of the phrase that ends in `id`: tried from one more token than before down.
    for (int32_t length = progress[i] + 1; length >= 0; --length) {
      const bool fits = length == 0 ||
                        (phrase[length - 1] == id && std::equal(phrase.begin(), phrase.begin() + length - 1,
                                                                phrase.begin() + progress[i] - (length - 1)));
      if (!fits) continue;
      next[i] = length;
      break;
    }
  }
  return next;
}

bool Constraints::complete(const Progress& progress) const {
  for (size_t i = 0; i < phrases_.size(); ++i) {
    if (progress[i] < static_cast<int32_t>(phrases_[i].size())) return false;
  }
  return true;
}

std::vector<int32_t> Constraints::wanted(const Progress& progress) const {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < phrases_.size(); ++i) {
    if (progress[i] < static_cast<int32_t>(phrases_[i].size())) ids.push_back(phrases_[i][progress[i]]);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

int64_t Constraints::tokens(const Progress& progress) const {
  int64_t met = 0, begun = 0;
  for (size_t i = 0; i < phrases_.size(); ++i) {
    const bool is_met = progress[i] == static_cast<int32_t>(phrases_[i].size());
    if (is_met) {
      met += progress[i];
    } else {  // beginnings may share tokens
      begun = std::max<int64_t>(begun, progress[i]);
    }
  }
  return met + begun;
}

std::vector<size_t> share_beam(const std::vector<int64_t>& banks, int64_t beam) {
  std::map<int64_t, std::deque<size_t>, std::greater<>> waiting;
  for (size_t i = 0; i < banks.size(); ++i) waiting[banks[i]].push_back(i);
  std::vector<size_t> chosen;
  while (!waiting.empty() && static_cast<int64_t>(chosen.size()) < beam) {
    for (auto bank = waiting.begin(); bank != waiting.end() && static_cast<int64_t>(chosen.size()) < beam;) {
      chosen.push_back(bank->second.front());
      bank->second.pop_front();
      bank = bank->second.empty() ? waiting.erase(bank) : std::next(bank);
    }
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace dragoman
