// The search of one request, step by step. Each live hypothesis, one that has not ended, has a row of logits.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"
#include "decode/options.h"
#include "decode/paths.h"

namespace dragoman {

// What a search gets to see of a step's logits: usually the k largest of each row, with what turns them into
// log probabilities.
struct ScoredRows {
  int64_t k;             // number of candidates in each row
  const int32_t* ids;    // (rows, k): the tokens with the largest logits, in order; equal ones by id
  const float* logits;   // (rows, k): their logits
  const float* softmax;  // (rows, 2): maximum and sum of the softmax, see csrc/ops/top_k.h
  // (rows, vocabulary): all logits, on the host. Where reads_rows() asked for them.
  std::optional<Tensor> all;
  // One vector for each row: the weight of each token of its source, (source tokens,), with sum 1. Where
  // reads_attention() asked for it, else null.
  const std::vector<float>* attention;

  // A token's logit, from `all`.
  float of(int64_t row, const Vocabulary& vocabulary, int32_t id) const {
    return all->data<float>()[row * vocabulary.size + id];
  }
  void check_finite(int64_t row) const;  // FloatingPointError
  double log_prob(int64_t row, float logit) const {
    return static_cast<double>(logit) - softmax[2 * row] -
           std::log(static_cast<double>(softmax[2 * row + 1]));
  }
};

// How a new live hypothesis came about: the hypothesis in row `parent` went on with token `id`.
struct Taken {
  int64_t parent;
  int32_t id;
};

class Search {
 public:
  Search(const SearchOptions& options, const Vocabulary& vocabulary);
  virtual ~Search() = default;

  // What the search needs of the next step: the number of candidates in a row; whether it reads all logits;
  // whether it reads the attention.
  virtual int64_t candidates() const = 0;
  virtual bool reads_rows() const = 0;
  bool reads_attention() const { return options_.coverage_penalty != 0.0; }
  // The token that the next step must take, because of the prefix or of forced_last.
  std::optional<int32_t> forced() const;
  // Chooses the next token of each hypothesis. FloatingPointError or ValueError where none may be chosen.
  virtual void step(const ScoredRows& rows) = 0;

  int64_t length() const { return length_; }  // tokens of the live hypotheses
  // The live hypotheses: before the first step one, without a token; none when the search has ended.
  const std::vector<Taken>& live() const { return live_; }
  bool done() const { return live_.empty(); }
  virtual std::vector<int32_t> ids(int64_t row) const = 0;  // of a live hypothesis
  virtual std::vector<Hypothesis> result() const = 0;       // the best first
  virtual std::vector<int32_t> stable() const = 0;  // ids that all live and finished hypotheses begin with

 protected:
  // Whether the prefix gives the token of the next step.
  bool in_prefix() const { return length_ < static_cast<int64_t>(options_.prefix.size()); }

  const SearchOptions options_;
  const Vocabulary& vocabulary_;
  Paths paths_;
  int64_t begin_ = Paths::none;  // the path of the tokens that are there before the first step
  int64_t length_ = 0;
  std::vector<Taken> live_;
};

// Throws because no token may be chosen: ValueError where the options forbid tokens, else FloatingPointError.
[[noreturn]] void no_token_left(const SearchOptions& options);

std::unique_ptr<Search> make_search(const SearchOptions& options, const Vocabulary& vocabulary);

}  // namespace dragoman
