// Draws tokens from a model's distribution: `count` outputs, a row each.
#pragma once

#include "decode/search.h"

namespace dragoman {

// Uniform in [0, 1). It depends on its arguments alone: what a request draws is the same in every batch.
double uniform_draw(uint64_t seed, uint64_t place, uint64_t output, uint64_t step);

struct Choice {
  int32_t id;
  double logit;
};

// The id that `draw` in [0, 1) falls on, where ids have the probabilities of their logits / temperature. Of
// these the `top_k` most probable are kept (Fan et al. 2018, arXiv:1805.04833), then the most probable that
// together reach `top_p` (Holtzman et al. 2020, arXiv:1904.09751), then those of at least `min_p` times the
// largest probability (Nguyen et al. 2024, arXiv:2407.01082). `choices` is not empty.
int32_t draw_id(const std::vector<Choice>& choices, double draw, const SearchOptions& options);

class Sampler : public Search {
 public:
  Sampler(const SearchOptions& options, const Vocabulary& vocabulary);

  int64_t candidates() const override;
  bool reads_rows() const override { return forced() || options_.top_k == 0; }
  void step(const ScoredRows& rows) override;
  std::vector<int32_t> ids(int64_t row) const override { return paths_.ids(outputs_[drawn_[row]].path); }
  std::vector<Hypothesis> result() const override;
  std::vector<int32_t> stable() const override { return paths_.ids(outputs_.front().path); }

 private:
  struct Output {
    int64_t path = Paths::none;  // without the end
    bool ended = false;
    double end_log_prob = 0.0, total = 0.0;
  };

  bool forced() const { return length_ < static_cast<int64_t>(options_.prefix.size()); }
  std::vector<Choice> choices(const ScoredRows& rows, int64_t row) const;

  const SearchOptions options_;
  const Vocabulary& vocabulary_;
  Paths paths_;
  int64_t length_ = 0;
  std::vector<Output> outputs_;
  std::vector<int64_t> drawn_;  // the output of each row; before the first step all share one row
};

}  // namespace dragoman
