#include "decode/sampler.h"

#include <algorithm>

#include "core/random.h"
#include "ops/elementwise.h"
#include "ops/softmax.h"

namespace dragoman {

namespace {

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

// A temperature near 0 counts as one at which logits cannot overflow.
double inverse_temperature(const SearchOptions& options) {
  return 1.0 / std::max(options.temperature, 1e-6);
}

}  // namespace

double uniform_draw(uint64_t seed, uint64_t place, uint64_t output, uint64_t step) {
  const PhiloxBlock block = philox(seed, static_cast<uint32_t>(step), static_cast<uint32_t>(output),
                                   static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32));
  const uint64_t bits = (uint64_t{block.word[0]} << 32 | block.word[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

int32_t draw_id(std::vector<Weighted> ids, double draw, const SearchOptions& options) {
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < ids.size()) {
    std::nth_element(ids.begin(), ids.begin() + options.top_k, ids.end(), more_probable);
    ids.resize(options.top_k);
  }
  if (options.top_p < 1.0) keep_top_p(ids, options.top_p);
  if (options.min_p > 0.0) {
    const double least = options.min_p * std::max_element(ids.begin(), ids.end(), less_probable)->weight;
    std::erase_if(ids, [&](const Weighted& each) { return each.weight < least; });
  }
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
    : Search(options, vocabulary), outputs_(options.count, Output{begin_, std::nullopt, 0.0}) {
  if (options.limit == length_) return;
  for (int64_t i = 0; i < options.count; ++i) drawn_.push_back(i);
  live_.push_back({0, 0});
}

int64_t Sampler::candidates() const {
  return std::min(options_.top_k, vocabulary_.size) +
         static_cast<int64_t>(vocabulary_.ends.size() + options_.unwritten.size());
}

std::vector<std::vector<Weighted>> Sampler::weights(const ScoredRows& rows) const {
  std::vector<std::vector<Weighted>> found(live_.size());
  if (options_.top_k > 0) {
    for (size_t row = 0; row < found.size(); ++row)
      found[row] = weights_of_candidates(rows, static_cast<int64_t>(row));
    return found;
  }
  const Tensor scaled = Tensor::empty(rows.all->shape());
  accumulate(scaled, *rows.all, inverse_temperature(options_), false);
  for (size_t row = 0; row < found.size(); ++row) {
    float* values = scaled.data<float>() + row * vocabulary_.size;
    for (const std::vector<int32_t>* special : {&options_.unwritten, &vocabulary_.ends}) {
      for (const int32_t id : *special) values[id] = may_choose(id) ? values[id] : -INFINITY;
    }
  }
  const Tensor softmax = softmax_forward(scaled);
  for (size_t row = 0; row < found.size(); ++row) {
    const float* values = softmax.data<float>() + row * vocabulary_.size;
    found[row].reserve(vocabulary_.size);
    for (int32_t id = 0; id < vocabulary_.size; ++id) {
      if (values[id] > 0.0f) found[row].push_back({id, values[id]});
    }
  }
  return found;
}

std::vector<Weighted> Sampler::weights_of_candidates(const ScoredRows& rows, int64_t row) const {
  std::vector<Weighted> found;
  std::optional<float> largest;
  for (int64_t column = row * rows.k; column < (row + 1) * rows.k; ++column) {
    const float logit = rows.logits[column];
    if (logit == -INFINITY || !may_choose(rows.ids[column])) continue;
    if (!largest) largest = logit;
    const double weight = std::exp((static_cast<double>(logit) - *largest) * inverse_temperature(options_));
    if (weight > 0.0) found.push_back({rows.ids[column], static_cast<float>(weight)});
  }
  return found;
}

void Sampler::step(const ScoredRows& rows) {
  for (size_t row = 0; row < live_.size(); ++row) rows.check_finite(static_cast<int64_t>(row));
  std::vector<std::vector<Weighted>> all(live_.size());
  const std::optional<int32_t> only = forced();
  if (!only) all = weights(rows);
  std::vector<int64_t> drawn;
  live_.clear();
  for (size_t i = 0; i < drawn_.size(); ++i) {
    const int64_t row = one_row_ ? 0 : static_cast<int64_t>(i);
    Output& output = outputs_[drawn_[i]];
    if (!only && all[row].empty()) no_token_left(options_);
    const int32_t id =
        only ? *only
             : draw_id(all[row], uniform_draw(options_.seed, options_.place, drawn_[i], length_), options_);
    const double log_prob = only && !in_prefix() ? 0.0 : rows.log_prob(row, logit_of(rows, row, id));
    output.total += log_prob;
    if (!in_prefix() && vocabulary_.is_end(id)) {
      output.end = log_prob;
      continue;
    }
    output.path = paths_.append(output.path, id, log_prob);
    if (length_ + 1 == options_.limit) continue;
    drawn.push_back(drawn_[i]);
    live_.push_back({row, id});
  }
  drawn_ = std::move(drawn);
  one_row_ = false;
  ++length_;
}

float Sampler::logit_of(const ScoredRows& rows, int64_t row, int32_t id) const {
  if (rows.all) return rows.of(row, vocabulary_, id);
  const int32_t* ids = rows.ids + row * rows.k;
  return rows.logits[row * rows.k + (std::find(ids, ids + rows.k, id) - ids)];
}

std::vector<Hypothesis> Sampler::result() const {
  std::vector<Hypothesis> found;
  for (const Output& output : outputs_) {
    found.push_back(paths_.hypothesis(output.path, output.end, output.total, output.total));
  }
  return found;
}

}  // namespace dragoman
