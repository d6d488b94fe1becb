// What options change in a row of logits before its candidates are chosen.
#pragma once

#include "decode/options.h"

namespace dragoman {

// Penalises the tokens of `history`: positive logits are divided by the penalty, others multiplied (Keskar et
// al. 2019, arXiv:1909.05858). Where `log_sum` is given, the penalty is on log probabilities, row - log_sum.
void penalise_repetition(float* row, const std::vector<int32_t>& history, double penalty,
                         double log_sum = 0.0);

// Whether mask() has anything to do.
bool has_masks(const SearchOptions& options);

// Sets the logits of forbidden tokens to -inf, for the token after `written` tokens of an output: of
// `suppress` and `begin_suppress`, outside `allowed`, and those that would end a bad word or an n-gram that
// `history`, all that the decoder has read, holds already. `ends` stay allowed. To renormalize, also of what
// a search passes over: tokens that are never chosen, and ends before min_length.
void mask(float* row, const std::vector<int32_t>& history, int64_t written, const SearchOptions& options,
          const Vocabulary& vocabulary);

}  // namespace dragoman
