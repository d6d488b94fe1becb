#include "decode/beam_search.h"

#include <algorithm>

#include "core/check.h"

namespace dragoman {

namespace {

template <class Scored>
void sort_by_score(std::vector<Scored>& hypotheses) {
  std::stable_sort(hypotheses.begin(), hypotheses.end(),
                   [](const Scored& a, const Scored& b) { return a.score > b.score; });
}

}  // namespace

BeamSearch::BeamSearch(const SearchOptions& options, const Vocabulary& vocabulary)
    : Search(options, vocabulary), constraints_(options.constraints) {
  if (options.limit == length_) {
    cut_.push_back({begin_, std::nullopt, 0.0, 0.0});
    return;
  }
  hypotheses_.push_back({begin_, 0.0, constraints_.begin(), {}});
  live_.push_back({0, 0});
}

int64_t BeamSearch::candidates() const {
  // Those that may end and `beam` more, beside those that are never chosen.
  return options_.beam + static_cast<int64_t>(vocabulary_.ends.size() + options_.unwritten.size());
}

bool BeamSearch::reads_rows() const {
  return in_prefix() || must_end() || !constraints_.empty();
}

std::vector<BeamSearch::Extension> BeamSearch::extensions(const ScoredRows& rows) const {
  std::vector<Extension> found;
  const int64_t columns = std::min(rows.k, candidates());  // requests beside this one may ask for more
  const std::optional<int32_t> only = forced();
  for (int64_t row = 0; row < static_cast<int64_t>(hypotheses_.size()); ++row) {
    const Live& live = hypotheses_[row];
    const auto consider = [&](int32_t id, float logit) {
      const double log_prob = rows.log_prob(row, logit);
      if (log_prob > -INFINITY) found.push_back({row, id, log_prob, live.total + log_prob});
    };
    const auto consider_from_row = [&](int32_t id) { consider(id, rows.of(row, vocabulary_, id)); };
    if (in_prefix()) {
      consider_from_row(*only);
      continue;
    }
    if (only) {
      found.push_back({row, *only, 0.0, live.total});
      continue;
    }
    if (must_end()) {
      for (const int32_t id : vocabulary_.ends) consider_from_row(id);
      continue;
    }
    const bool may_end = length_ >= options_.min_length && constraints_.complete(live.progress);
    const int32_t* ids = rows.ids + row * rows.k;
    for (int64_t column = 0; column < columns; ++column) {
      if (options_.is_unwritten(ids[column]) || (!may_end && vocabulary_.is_end(ids[column]))) continue;
      consider(ids[column], rows.logits[row * rows.k + column]);
    }
    for (const int32_t id : constraints_.wanted(live.progress)) {
      const bool is_candidate = std::find(ids, ids + columns, id) != ids + columns;
      if (!is_candidate || options_.is_unwritten(id)) consider_from_row(id);
    }
  }
  // Ties go to the better parent, then to the lower id: the order in which they were found.
  std::stable_sort(found.begin(), found.end(),
                   [](const Extension& a, const Extension& b) { return a.total > b.total; });
  return found;
}

std::vector<size_t> BeamSearch::chosen(const std::vector<Extension>& found, size_t considered,
                                       size_t width) const {
  std::vector<size_t> going_on;
  std::vector<int64_t> banks;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!in_prefix() && vocabulary_.is_end(found[i].id)) continue;
    if (constraints_.empty()) {
      if (i >= considered || going_on.size() == width) break;
    } else {
      const Progress& progress = hypotheses_[found[i].parent].progress;
      banks.push_back(constraints_.tokens(constraints_.advanced(progress, found[i].id)));
    }
    going_on.push_back(i);
  }
  if (constraints_.empty()) return going_on;
  std::vector<size_t> shared = share_beam(banks, static_cast<int64_t>(width));
  for (size_t& i : shared) i = going_on[i];
  return shared;
}

void BeamSearch::step(const ScoredRows& rows) {
  for (int64_t row = 0; row < static_cast<int64_t>(hypotheses_.size()); ++row) rows.check_finite(row);
  const std::vector<Extension> found = extensions(rows);
  const std::vector<Coverage> coverage = coverage_after(rows);
  const bool shrinks = options_.like == Like::marian;
  const size_t width = options_.beam - (shrinks ? finished_.size() : 0);
  // What goes on, or is cut at the limit, is among the best `considered`; what ends, among the best `width`.
  const bool best_alone = shrinks || (options_.like == Like::hf && length_ + 1 == options_.limit);
  const size_t considered = best_alone ? width : (vocabulary_.ends.size() + 1) * options_.beam;
  size_t rank = 0;  // among the extensions of hypotheses that may end
  for (const Extension& extension : found) {
    if (!constraints_.complete(hypotheses_[extension.parent].progress)) continue;
    if (rank++ == width) break;
    if (!in_prefix() && vocabulary_.is_end(extension.id)) finish(extension, coverage[extension.parent]);
  }
  std::vector<Live> hypotheses;
  live_.clear();
  for (const size_t i : chosen(found, considered, width)) {
    const Live& parent = hypotheses_[found[i].parent];
    hypotheses.push_back({paths_.append(parent.path, found[i].id, found[i].log_prob), found[i].total,
                          constraints_.advanced(parent.progress, found[i].id), coverage[found[i].parent]});
    live_.push_back({found[i].parent, found[i].id});
  }
  hypotheses_ = std::move(hypotheses);
  ++length_;
  if (hypotheses_.empty() && finished_.empty()) no_token_left(options_);
  sort_by_score(finished_);
  if (finished_.size() > static_cast<size_t>(options_.beam)) finished_.resize(options_.beam);
  if (length_ == options_.limit) {
    cut();
    end();
  } else if (decided()) {
    end();
  }
}

std::vector<Coverage> BeamSearch::coverage_after(const ScoredRows& rows) const {
  std::vector<Coverage> after(hypotheses_.size());
  for (size_t row = 0; row < after.size() && reads_attention(); ++row) {
    after[row] = covered(hypotheses_[row].coverage, rows.attention[row]);
  }
  return after;
}

double BeamSearch::score(double total, int64_t length, const Coverage& coverage) const {
  return normalised_score(options_.like, total, length, options_.length_penalty) +
         options_.coverage_penalty * log_coverage(coverage);
}

void BeamSearch::finish(const Extension& extension, const Coverage& coverage) {
  const bool first_come = options_.like == Like::fairseq;
  if (first_come && finished_.size() == static_cast<size_t>(options_.beam)) return;
  finished_.push_back({hypotheses_[extension.parent].path, extension.log_prob, extension.total,
                       score(extension.total, length_ + 1, coverage)});
}

void BeamSearch::cut() {
  for (const Live& live : hypotheses_) {
    if (!constraints_.complete(live.progress)) continue;
    cut_.push_back({live.path, std::nullopt, live.total, score(live.total, length_, live.coverage)});
  }
  sort_by_score(cut_);
  CHECK(!cut_.empty() || !finished_.empty(), "constraints: no output of at most ", options_.limit,
        " tokens with all of them was found");
}

void BeamSearch::end() {
  hypotheses_.clear();
  live_.clear();
}

bool BeamSearch::decided() const {
  if (hypotheses_.empty()) return true;
  if (finished_.size() < static_cast<size_t>(options_.beam)) return false;
  if (options_.like == Like::fairseq || options_.early_stopping == EarlyStopping::yes) return true;
  const int64_t length = options_.early_stopping == EarlyStopping::never ? options_.limit : length_;
  return std::all_of(hypotheses_.begin(), hypotheses_.end(), [&](const Live& live) {
    return score(live.total, length, live.coverage) <= finished_.back().score;
  });
}

std::vector<Hypothesis> BeamSearch::result() const {
  std::vector<Finished> all = finished_;
  all.insert(all.end(), cut_.begin(), cut_.end());
  if (options_.like != Like::dragoman) sort_by_score(all);
  if (all.size() > static_cast<size_t>(options_.count)) all.resize(options_.count);
  std::vector<Hypothesis> found;
  for (const Finished& each : all) {
    found.push_back(paths_.hypothesis(each.path, each.end, each.total, each.score));
  }
  return found;
}

std::vector<int32_t> BeamSearch::stable() const {
  std::optional<std::vector<int32_t>> shared;
  const auto take = [&](int64_t path) {
    if (!shared) {
      shared = paths_.ids(path);
    } else if (!shared->empty()) {
      keep_common(*shared, paths_.ids(path));
    }
  };
  for (const Live& live : hypotheses_) take(live.path);
  for (const Finished& each : finished_) take(each.path);
  for (const Finished& each : cut_) take(each.path);
  return shared.value_or(std::vector<int32_t>());
}

}  // namespace dragoman
