// What a request asks of a search. Python's SearchOptions describes and checks the values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dragoman {

// Whose rule says when a search ends and what a score is.
enum class Like : uint8_t { dragoman, marian, fairseq, hf };
Like parse_like(const std::string& text);  // ValueError

// When a beam search stops, once `beam` hypotheses have ended. A live hypothesis is one that has not ended.
//   yes:   at once
//   no:    when no live hypothesis has a better score, at its present length, than the worst that ended
//   never: the same, with the score that the live one would have at the length limit
enum class EarlyStopping : uint8_t { no, yes, never };
EarlyStopping parse_early_stopping(const std::string& text);  // ValueError

inline bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

struct SearchOptions {
  int64_t beam = 1;   // live hypotheses at a time
  int64_t count = 1;  // hypotheses in the result
  int64_t limit = 0;  // maximum tokens of an output, its end token included
  int64_t min_length = 0;
  double length_penalty = 0.6, coverage_penalty = 0.0;
  Like like = Like::dragoman;
  EarlyStopping early_stopping = EarlyStopping::no;
  double temperature = 0.0;  // 0: beam search; above 0: `count` outputs are drawn
  int64_t top_k = 0;         // draw among this many most probable tokens; 0: among all
  double top_p = 1.0, min_p = 0.0;
  uint64_t seed = 0, place = 0;                 // of the random draws: see uniform_draw in sampler.h
  std::vector<int32_t> prefix;                  // the output's first tokens
  std::optional<int32_t> forced_last;           // the only token that may be chosen at the limit
  std::vector<int32_t> unwritten;               // never chosen, by the model: pad, bos and unk
  std::vector<int32_t> suppress;                // never chosen, by the request
  std::vector<int32_t> begin_suppress;          // not chosen as the first token after the prefix
  std::vector<int32_t> allowed;                 // only these may be chosen; empty: all
  std::vector<std::vector<int32_t>> bad_words;  // sequences of tokens that are not written
  int64_t no_repeat_ngram = 0;                  // n-grams of this size appear once; 0: no such rule
  double repetition_penalty = 1.0;
  bool renormalize = false;                       // the softmax runs over the tokens that may be chosen
  std::vector<std::vector<int32_t>> constraints;  // phrases that an output contains

  bool forbids() const;  // whether an option forbids tokens
  // Whether the decoder reads the prefix in its first step, together with the start ids. Then no step chooses
  // the tokens of the prefix, and their log probabilities count as 0.
  bool reads_prefix_first() const { return like == Like::hf; }
  // Whether the search needs only the logits of `allowed` and of the end tokens.
  bool reads_allowed_alone() const;
  bool is_unwritten(int32_t id) const { return contains(unwritten, id); }
};

// The tokens that the model chooses from.
struct Vocabulary {
  int64_t size;
  std::vector<int32_t> ends;  // tokens that end an output

  bool is_end(int32_t id) const { return contains(ends, id); }
};

// The score of a hypothesis: log_prob divided by a penalty of its length, which differs between the rules.
// `length` counts the end token. The formulas are in the docstring of Python's SearchOptions.
double normalised_score(Like like, double log_prob, int64_t length, double length_penalty);

}  // namespace dragoman
