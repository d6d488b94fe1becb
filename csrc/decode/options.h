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

// Of like="hf": whether a search ends as soon as `beam` are finished; no and never: when no live hypothesis
// would be better, if it ended now or, of never, at the limit.
enum class EarlyStopping : uint8_t { no, yes, never };
EarlyStopping parse_early_stopping(const std::string& text);  // ValueError

inline bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

struct SearchOptions {
  int64_t beam = 1;   // hypotheses at a time
  int64_t count = 1;  // of the result
  int64_t limit = 0;  // tokens of an output at most, with the end
  int64_t min_length = 0;
  double length_penalty = 0.6, coverage_penalty = 0.0;
  Like like = Like::dragoman;
  EarlyStopping early_stopping = EarlyStopping::no;
  double temperature = 0.0;  // 0: a search; above: `count` draws
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0, min_p = 0.0;
  uint64_t seed = 0, place = 0;                 // of the draws
  std::vector<int32_t> prefix;                  // the output's first tokens
  std::optional<int32_t> forced_last;           // the only token at the limit
  std::vector<int32_t> unwritten;               // the model's tokens that are never chosen
  std::vector<int32_t> suppress;                // never chosen
  std::vector<int32_t> begin_suppress;          // not chosen as the first token after the prefix
  std::vector<int32_t> allowed;                 // the only ones that are chosen; empty: all
  std::vector<std::vector<int32_t>> bad_words;  // sequences of tokens that are not written
  int64_t no_repeat_ngram = 0;                  // 0: n-grams may come again
  double repetition_penalty = 1.0;
  bool renormalize = false;                       // the probabilities of what may be chosen add up to 1
  std::vector<std::vector<int32_t>> constraints;  // phrases that an output contains

  bool forbids() const;  // whether an option forbids tokens
  // Whether the decoder reads the prefix at once, with what comes before it: the log probabilities of its
  // tokens count as 0.
  bool reads_prefix_first() const { return like == Like::hf; }
  // Whether a search reads no logits but those of `allowed` and of the ends.
  bool reads_allowed_alone() const;
  bool is_unwritten(int32_t id) const { return contains(unwritten, id); }
};

// Of the model.
struct Vocabulary {
  int64_t size;
  std::vector<int32_t> ends;  // tokens that end an output

  bool is_end(int32_t id) const { return contains(ends, id); }
};

// log P / length penalty, of `length` tokens with the end; by each rule as Python's SearchOptions says.
double normalised_score(Like like, double log_prob, int64_t length, double length_penalty);

}  // namespace dragoman
