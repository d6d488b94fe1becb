// Coverage: how much an output has looked at each token of its source (Wu et al. 2016, arXiv:1609.08144,
// section 7).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace dragoman {

// (source tokens,): for each, the sum of the attention that the tokens of an output have paid to it.
using Coverage = std::vector<float>;

// The coverage with one more token. `attention`, (source tokens,), is where that token looks; `before` is the
// coverage of the tokens before it, empty for the first one.
inline Coverage covered(const Coverage& before, const std::vector<float>& attention) {
  Coverage after = attention;
  for (size_t i = 0; i < before.size(); ++i) after[i] += before[i];
  return after;
}

// Sum over the source of log(min(coverage, 1)). A coverage below 1e-6 counts as 1e-6.
inline double log_coverage(const Coverage& coverage) {
  double sum = 0.0;
  for (const float each : coverage) sum += std::log(std::clamp(static_cast<double>(each), 1e-6, 1.0));
  return sum;
}

}  // namespace dragoman
