#include "decode/sampler.h"

#include <algorithm>

#include "core/random.h"

namespace dragoman {

namespace {

struct Weighted {
  int32_t id;
  double weight;
};

bool more_probable(const Weighted& a, const Weighted& b) {
  return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}
bool less_probable(const Weighted& a, const Weighted& b) {
  return more_probable(b, a);
}

double sum_of(const std::vector<Weighted>& ids) {
  double sum = 0.0;
  for (const Weighted& each : ids) sum += each.weight;
  return sum;
}

// Keeps the most probable ids that together reach the share `top_p`.
void keep_top_p(std::vector<Weighted>& ids, double top_p) {
  const double enough = top_p * sum_of(ids);
  std::make_heap(ids.begin(), ids.end(), less_probable);
  double reached = 0.0;
  auto rest = ids.end();
  while (rest != ids.begin() && reached < enough) {
    std::pop_heap(ids.begin(), rest, less_probable);
    reached += (--rest)->weight;
  }
  ids.erase(ids.begin(), rest);
}

}  // namespace

double uniform_draw(uint64_t seed, uint64_t place, uint64_t output, uint64_t step) {
  const PhiloxBlock block = philox(seed, static_cast<uint32_t>(step), static_cast<uint32_t>(output),
                                   static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32));
  const uint64_t bits = (uint64_t{block.word[0]} << 32 | block.word[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

int32_t draw_id(const std::vector<Choice>& choices, double draw, const SearchOptions& options) {
  const double largest =
      std::max_element(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
        return a.logit < b.logit;
      })->logit;
  std::vector<Weighted> ids;
  ids.reserve(choices.size());
  for (const Choice& choice : choices) {
    const double weight = std::exp((choice.logit - largest) / options.temperature);
    if (weight > 0.0 && weight >= options.min_p) ids.push_back({choice.id, weight});
  }
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < ids.size()) {
    std::nth_element(ids.begin(), ids.begin() + options.top_k, ids.end(), more_probable);
    ids.resize(options.top_k);
  }
  if (options.top_p < 1.0) keep_top_p(ids, options.top_p);
  if (options.top_k > 0 || options.top_p < 1.0) {
    std::sort(ids.begin(), ids.end(), [](const Weighted& a, const Weighted& b) { return a.id < b.id; });
  }
  const double place = draw * sum_of(ids);
  double reached = 0.0;
  for (const Weighted& each : ids) {
    reached += each.weight;
    if (place < reached) return each.id;
  }
  return ids.back().id;  // where a product was rounded up
}

Sampler::Sampler(const SearchOptions& options, const Vocabulary& vocabulary)
    : options_(options), vocabulary_(vocabulary), outputs_(options.count) {
  if (options.limit == 0) return;
  for (int64_t i = 0; i < options.count; ++i) drawn_.push_back(i);
  live_.push_back({0, 0});
}

int64_t Sampler::candidates() const {
  return options_.top_k + static_cast<int64_t>(vocabulary_.ends.size() + vocabulary_.unwritten.size());
}

std::vector<Choice> Sampler::choices(const ScoredRows& rows, int64_t row) const {
  std::vector<Choice> found;
  const bool may_end = length_ >= options_.min_length;
  const auto consider = [&](int32_t id, float logit) {
    if (logit == -INFINITY || vocabulary_.is_unwritten(id) || (!may_end && vocabulary_.is_end(id))) return;
    found.push_back({id, logit});
  };
  if (options_.top_k == 0) {
    for (int32_t id = 0; id < vocabulary_.size; ++id) consider(id, rows.of(row, vocabulary_, id));
  } else {
    for (int64_t column = row * rows.k; column < (row + 1) * rows.k; ++column) {
      consider(rows.ids[column], rows.logits[column]);
    }
  }
  return found;
}

void Sampler::step(const ScoredRows& rows) {
  std::vector<int64_t> drawn;
  live_.clear();
  for (size_t i = 0; i < drawn_.size(); ++i) {
    const int64_t row = length_ == 0 ? 0 : static_cast<int64_t>(i);
    Output& output = outputs_[drawn_[i]];
    rows.check_finite(row);
    int32_t id;
    double logit;
    if (forced()) {
      id = options_.prefix[length_];
      logit = rows.of(row, vocabulary_, id);
    } else {
      const std::vector<Choice> all = choices(rows, row);
      if (all.empty()) no_token_left(options_);
      id = draw_id(all, uniform_draw(options_.seed, options_.place, drawn_[i], length_), options_);
      logit =
          std::find_if(all.begin(), all.end(), [&](const Choice& choice) { return choice.id == id; })->logit;
    }
    const double log_prob = rows.log_prob(row, static_cast<float>(logit));
    output.total += log_prob;
    if (!forced() && vocabulary_.is_end(id)) {
      output.ended = true;
      output.end_log_prob = log_prob;
      continue;
    }
    output.path = paths_.append(output.path, id, log_prob);
    if (length_ + 1 == options_.limit) continue;
    drawn.push_back(drawn_[i]);
    live_.push_back({row, id});
  }
  drawn_ = std::move(drawn);
  ++length_;
}

std::vector<Hypothesis> Sampler::result() const {
  std::vector<Hypothesis> found;
  for (const Output& output : outputs_) {
    std::vector<double> log_probs = paths_.log_probs(output.path);
    if (output.ended) log_probs.push_back(output.end_log_prob);
    const auto length = static_cast<int64_t>(log_probs.size());
    found.push_back({paths_.ids(output.path), output.total, output.total, length, std::move(log_probs)});
  }
  return found;
}

}  // namespace dragoman
