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
    double total;       // sum of the log probabilities of its tokens
    Progress progress;  // through the constraints
    Coverage coverage;  // empty without a coverage penalty
  };
  struct Finished {
    int64_t path;               // without the end token
    std::optional<double> end;  // log probability of the end token; none: the limit cut the hypothesis
    double total, score;
  };
  struct Extension {
    int64_t parent;  // row of the hypothesis that takes the token
    int32_t id;
    double log_prob, total;  // of the token; of the hypothesis with it
  };

  // Whether the next token must be an end token, because it is the last.
  bool must_end() const { return options_.like == Like::fairseq && length_ + 1 == options_.limit; }
  std::vector<Extension> extensions(const ScoredRows& rows) const;  // of all rows, the best first
  // The extensions that become the live hypotheses, at most `width`: indices into `found`. The first
  // `considered` are looked at, or all where constraints share the beam; those with an end token are passed
  // over.
  std::vector<size_t> chosen(const std::vector<Extension>& found, size_t considered, size_t width) const;
  // The coverage of each row's hypothesis with the token that this step chooses.
  std::vector<Coverage> coverage_after(const ScoredRows& rows) const;
  double score(double total, int64_t length, const Coverage& coverage) const;
  void finish(const Extension& extension, const Coverage& coverage);
  void cut();            // moves the live hypotheses to cut_: they have reached the limit
  void end();            // the search is over
  bool decided() const;  // whether more steps cannot change the result

  const Constraints constraints_;
  std::vector<Live> hypotheses_;
  std::vector<Finished> finished_, cut_;  // the best first
};

}  // namespace dragoman
