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

// Sets the logits of forbidden tokens to -inf. `row`, (vocabulary,), has the logits of the next token;
// `history` is all that the decoder has read; `written` counts the output's tokens in it. Forbidden are
//   - the tokens of `suppress`, and of `begin_suppress` at the output's first place after the prefix;
//   - all tokens outside `allowed`, but for the end tokens;
//   - a token that would complete a bad word, or an n-gram that `history` holds already;
//   - with `renormalize`, so that the softmax leaves them out: tokens that are never chosen, and end tokens
//     before min_length. Else the search passes over them.
void mask(float* row, const std::vector<int32_t>& history, int64_t written, const SearchOptions& options,
          const Vocabulary& vocabulary);

}  // namespace dragoman
