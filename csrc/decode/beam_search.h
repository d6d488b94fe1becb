// Greedy and beam search. Each step extends the best `beam` hypotheses by one token.
#pragma once

#include "decode/constraints.h"
#include "decode/coverage.h"
#include "decode/search.h"

namespace dragoman {

class BeamSearch : public Search {
 public:
  BeamSearch(const SearchOptions& options, const Vocabulary& vocabulary);

  int64_t candidates() const override;
  bool reads_rows() const override;
  void step(const ScoredRows& rows) override;
  std::vector<int32_t> ids(int64_t row) const override { return paths_.ids(hypotheses_[row].path); }
  std::vector<Hypothesis> result() const override;
  std::vector<int32_t> stable() const override;

 private:
  struct Live {
    int64_t path;
    double total;
    Progress progress;  // of the constraints
    Coverage coverage;  // with a penalty on it
  };
  struct Finished {
    int64_t path;               // without the end
    std::optional<double> end;  // its log probability; none: cut at the limit
    double total, score;
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
  // What the hypotheses cover with the token that this step chooses.
  std::vector<Coverage> coverage_after(const ScoredRows& rows) const;
  double score(double total, int64_t length, const Coverage& coverage) const;
  void finish(const Extension& extension, const Coverage& coverage);
  void cut();
  void end();
  bool decided() const;

  const Constraints constraints_;
  std::vector<Live> hypotheses_;
  std::vector<Finished> finished_, cut_;  // the best first
};

}  // namespace dragoman
