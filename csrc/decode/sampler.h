// Sampler: draws `count` outputs from a model's distribution. Each output has a row of logits.
#pragma once

#include "decode/search.h"

namespace dragoman {

// A number in [0, 1), uniformly distributed. It depends on the arguments alone, so a request draws the same
// in every batch.
double uniform_draw(uint64_t seed, uint64_t place, uint64_t output, uint64_t step);

struct Weighted {
  int32_t id;
  float weight;  // above 0
};

// Draws an id: the probabilities of `ids` are in proportion to their weights, and `draw` in [0, 1) chooses
// among them. Before that, the `top_k` most probable are kept (Fan et al. 2018, arXiv:1805.04833), then the
// most probable that together reach `top_p` (Holtzman et al. 2020, arXiv:1904.09751), then those of at least
// `min_p` times the largest probability (Nguyen et al. 2024, arXiv:2407.01082). `ids` is not empty and in the
// order of the ids.
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
  // For each row the tokens that may be chosen, with their weights at the temperature.
  std::vector<std::vector<Weighted>> weights(const ScoredRows& rows) const;
  float logit_of(const ScoredRows& rows, int64_t row, int32_t id) const;
  std::vector<Weighted> weights_of_candidates(const ScoredRows& rows, int64_t row) const;

  std::vector<Output> outputs_;
  std::vector<int64_t> drawn_;  // (rows,): the index in outputs_ of each row
  bool one_row_ = true;         // before the first step all outputs share one row
};

}  // namespace dragoman
