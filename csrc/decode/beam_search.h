// Greedy and beam search. Each step extends the best `beam` hypotheses by one token.
#pragma once

#include "decode/constraints.h"
#include "decode/search.h"

namespace dragoman {

class BeamSearch : public Search {
 public:
  BeamSearch(const SearchOptions& options, const Vocabulary& vocabulary);

  int64_t candidates() const override;
  bool reads_rows() const override;
  bool forced() const override { return length_ < static_cast<int64_t>(options_.prefix.size()); }
  void step(const ScoredRows& rows) override;
  std::vector<int32_t> ids(int64_t row) const override { return paths_.ids(hypotheses_[row].path); }
  std::vector<Hypothesis> result() const override;
  std::vector<int32_t> stable() const override;

 private:
  struct Live {
    int64_t path;
    double total;
    Progress progress;  // of the constraints
  };
  struct Finished {
    int64_t path;  // without the end
    bool ended;    // false: cut at the limit
    double end_log_prob, total, score;
  };
  struct Extension {
    int64_t parent;
    int32_t id;
    double log_prob, total;
  };

  bool must_end() const { return options_.like == Like::fairseq && length_ + 1 == options_.limit; }
  std::vector<Extension> extensions(const ScoredRows& rows) const;  // in order
  // Indices of the extensions that go on, of those that do not end.
  std::vector<size_t> chosen(const std::vector<Extension>& found, size_t considered, size_t width) const;
  void finish(const Extension& extension);
  void cut();
  void end();
  bool decided() const;

  const SearchOptions options_;
  const Vocabulary& vocabulary_;
  const Constraints constraints_;
  Paths paths_;
  int64_t length_ = 0;  // tokens of the live hypotheses
  std::vector<Live> hypotheses_;
  std::vector<Finished> finished_, cut_;  // the best first
};

}  // namespace dragoman
