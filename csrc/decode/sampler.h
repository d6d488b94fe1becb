// Draws tokens from a model's distribution: `count` outputs, a row each.
#pragma once

#include "decode/search.h"

namespace dragoman {

// Uniform in [0, 1). It depends on its arguments alone: what a request draws is the same in every batch.
double uniform_draw(uint64_t seed, uint64_t place, uint64_t output, uint64_t step);

struct Weighted {
  int32_t id;
  float weight;  // above 0
};

// The id that `draw` in [0, 1) falls on, where ids have probabilities in proportion to their weights. Of
// these the `top_k` most probable are kept (Fan et al. 2018, arXiv:1805.04833), then the most probable that
// together reach `top_p` (Holtzman et al. 2020, arXiv:1904.09751), then those of at least `min_p` times the
// largest probability (Nguyen et al. 2024, arXiv:2407.01082). `ids` is not empty and in the order of the ids.
int32_t draw_id(std::vector<Weighted> ids, double draw, const SearchOptions& options);

class Sampler : public Search {
 public:
  Sampler(const SearchOptions& options, const Vocabulary& vocabulary);

  int64_t candidates() const override;
  bool reads_rows() const override { return in_prefix() || options_.top_k == 0; }
  void step(const ScoredRows& rows) override;
  std::vector<int32_t> ids(int64_t row) const override { return paths_.ids(outputs_[drawn_[row]].path); }
  std::vector<Hypothesis> result() const override;
  std::vector<int32_t> stable() const override { return paths_.ids(outputs_.front().path); }

 private:
  struct Output {
    int64_t path;               // without the end
    std::optional<double> end;  // its log probability
    double total = 0.0;
  };

  bool may_choose(int32_t id) const {
    return !options_.is_unwritten(id) && (length_ >= options_.min_length || !vocabulary_.is_end(id));
  }
  // What may be chosen in each row, at the temperature.
  std::vector<std::vector<Weighted>> weights(const ScoredRows& rows) const;
  float logit_of(const ScoredRows& rows, int64_t row, int32_t id) const;
  std::vector<Weighted> weights_of_candidates(const ScoredRows& rows, int64_t row) const;

  std::vector<Output> outputs_;
  std::vector<int64_t> drawn_;  // the output of each row
  bool one_row_ = true;         // before the first step all share a row
};

}  // namespace dragoman
