// The search of one request, step by step. Its rows of logits are its live hypotheses.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"
#include "decode/options.h"
#include "decode/paths.h"

namespace dragoman {

// What a step shows a search of its rows.
struct ScoredRows {
  int64_t k;                            // columns of ids and logits
  const int32_t* ids;                   // (rows, k): the most probable, in order; equal ones by id
  const float* logits;                  // (rows, k): of `ids`
  const float* softmax;                 // (rows, 2): maximum and sum, as of csrc/ops/top_k.h
  std::optional<Tensor> all;            // (rows, vocabulary) on the host, where the search asked for it
  const std::vector<float>* attention;  // (rows,): of each its source, where the search asked for it

  float of(int64_t row, const Vocabulary& vocabulary, int32_t id) const {
    return all->data<float>()[row * vocabulary.size + id];
  }
  void check_finite(int64_t row) const;  // FloatingPointError
  double log_prob(int64_t row, float logit) const {
    return static_cast<double>(logit) - softmax[2 * row] -
           std::log(static_cast<double>(softmax[2 * row + 1]));
  }
};

// A token that a live hypothesis takes.
struct Taken {
  int64_t parent;  // row of the hypothesis that it extends
  int32_t id;
};

class Search {
 public:
  Search(const SearchOptions& options, const Vocabulary& vocabulary);
  virtual ~Search() = default;

  // Of the next step: how many candidates a row needs, and whether the search reads whole rows.
  virtual int64_t candidates() const = 0;
  virtual bool reads_rows() const = 0;
  bool reads_attention() const { return options_.coverage_penalty != 0.0; }
  // The token that the prefix or forced_last gives in the next step.
  std::optional<int32_t> forced() const;
  // The next step. FloatingPointError or ValueError where no hypothesis is left.
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
  int64_t begin_ = Paths::none;  // the path of what is there before the first step
  int64_t length_ = 0;
  std::vector<Taken> live_;
};

// Throws because no token may be chosen: ValueError where the options forbid tokens, else FloatingPointError.
[[noreturn]] void no_token_left(const SearchOptions& options);

std::unique_ptr<Search> make_search(const SearchOptions& options, const Vocabulary& vocabulary);

}  // namespace dragoman
