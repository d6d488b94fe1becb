#include "decode/generation.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/parallel.h"
#include "decode/host.h"
#include "decode/processors.h"
#include "ops/top_k.h"

namespace dragoman {

namespace {

bool changes_rows(const SearchOptions& options) {
  return options.repetition_penalty != 1.0 || has_masks(options);
}

// Applies the options to `logits`, the rows of one request on the host, whose decoder has read `before`
// first. Returns the softmax of these rows before tokens were forbidden, (rows, 2), so that the others keep
// the model's probabilities; none to renormalize.
std::optional<std::vector<float>> change_rows(const Tensor& logits, const Search& search,
                                              std::vector<int32_t> before, const SearchOptions& options,
                                              const Vocabulary& vocabulary) {
  if (options.reads_prefix_first()) before.resize(before.size() - options.prefix.size());  // it is in ids()
  // transformers penalises the log probabilities of a beam search, others the logits.
  const bool afterwards = options.like == Like::hf && options.beam > 1;
  const auto each_row = [&](const auto& change) {
    for (int64_t row = 0; row < logits.dim(0); ++row) {
      std::vector<int32_t> history = before;
      const std::vector<int32_t> ids = search.ids(row);
      history.insert(history.end(), ids.begin(), ids.end());
      change(row, logits.data<float>() + row * vocabulary.size, history);
    }
  };
  const auto penalise = [&](int64_t, float* values, const std::vector<int32_t>& history) {
    penalise_repetition(values, history, options.repetition_penalty);
  };
  const bool penalises = options.repetition_penalty != 1.0;
  if (penalises && !afterwards) each_row(penalise);
  std::optional<std::vector<float>> softmax;
  if (!options.renormalize || (penalises && afterwards))
    softmax = to_host<float>(std::get<2>(top_k(logits, 1)));
  each_row([&](int64_t row, float* values, const std::vector<int32_t>& history) {
    if (penalises && afterwards) {
      const float* of_row = softmax->data() + 2 * row;
      const double log_sum = of_row[0] + std::log(static_cast<double>(of_row[1]));
      penalise_repetition(values, history, options.repetition_penalty, log_sum);
    }
    if (!search.forced()) mask(values, history, search.length(), options, vocabulary);
  });
  if (options.renormalize) return std::nullopt;
  return softmax;
}

// Rows where no token is left get a softmax of their own: they are finite, and all their probabilities are 0.
void settle_empty_rows(float* softmax, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    if (softmax[2 * row + 1] != 0.0f) continue;
    softmax[2 * row] = 0.0f;
    softmax[2 * row + 1] = 1.0f;
  }
}

}  // namespace

Generation::Generation(std::shared_ptr<Steps> steps, Vocabulary vocabulary)
    : steps_(std::move(steps)), vocabulary_(std::move(vocabulary)) {}

int64_t Generation::add(Entry entry, const SearchOptions& options) {
  const int64_t key = next_key_++;
  entry.place = key;
  if (options.reads_prefix_first()) {
    entry.prefix.insert(entry.prefix.end(), options.prefix.begin(), options.prefix.end());
  }
  auto search = make_search(options, vocabulary_);
  if (search->done()) {
    done_.push_back(key);
    ended_[key] = {search->result(), nullptr};
  } else {
    waiting_.push_back({key, std::move(entry), options, std::move(search)});
  }
  return key;
}

std::vector<int64_t> Generation::step() {
  const FixedThreads fixed;
  std::vector<int64_t> keys = std::exchange(done_, {});
  try {
    prepare();
    if (model_rows_ > 0) advance();
    settle(running_, keys);
    if (!waiting_.empty()) join();
    settle(waiting_, keys);
    std::move(waiting_.begin(), waiting_.end(), std::back_inserter(running_));
    waiting_.clear();
    if (running_.empty()) leave();
  } catch (...) {
    running_.clear();
    waiting_.clear();
    try {
      model_rows_ = 0;
      steps_->next({}, {});  // also rows of an add that failed
    } catch (...) {          // the first error is the one to tell
    }
    throw;
  }
  return keys;
}

void Generation::prepare() {
  bool keeps = false;
  for (const std::vector<Request>* requests : {&running_, &waiting_}) {
    for (const Request& request : *requests) keeps = keeps || request.search->reads_attention();
  }
  if (keeps != keeps_attention_) {
    steps_->keep_attention(keeps);
    keeps_attention_ = keeps;
  }
  std::vector<int32_t> shortlist = shared_shortlist();
  if (shortlist != shortlist_) {
    steps_->narrow(shortlist);
    shortlist_ = std::move(shortlist);
  }
}

std::vector<int32_t> Generation::shared_shortlist() const {
  const std::vector<int32_t>* shared = nullptr;
  for (const std::vector<Request>* requests : {&running_, &waiting_}) {
    for (const Request& request : *requests) {
      const SearchOptions& options = request.options;
      if (!options.reads_allowed_alone() || (shared != nullptr && *shared != options.allowed)) return {};
      shared = &options.allowed;
    }
  }
  if (shared == nullptr) return {};
  std::vector<int32_t> tokens = *shared;
  tokens.insert(tokens.end(), vocabulary_.ends.begin(), vocabulary_.ends.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

void Generation::advance() {
  std::vector<int32_t> ids;
  std::vector<int64_t> parents;
  for (Request& request : running_) {
    const int64_t first = request.first_row;
    request.first_row = static_cast<int64_t>(ids.size());
    for (const Taken& taken : request.search->live()) {
      ids.push_back(taken.id);
      parents.push_back(first + taken.parent);
    }
  }
  if (ids.empty()) return leave();
  const Tensor logits = steps_->next(ids, parents);
  model_rows_ = static_cast<int64_t>(ids.size());
  search(logits, running_, 0);
}

void Generation::join() {
  std::vector<Entry> entries;
  for (Request& request : waiting_) {
    request.first_row = model_rows_ + static_cast<int64_t>(entries.size());
    entries.push_back(request.entry);
  }
  const int64_t first_row = model_rows_;
  for (Request& request : waiting_) request.entry.memory.reset();  // the model keeps what it needs of it
  const Tensor logits = steps_->add(entries);
  model_rows_ += static_cast<int64_t>(entries.size());
  search(logits, waiting_, first_row);
}

void Generation::search(const Tensor& logits, std::vector<Request>& requests, int64_t first_row) {
  int64_t candidates = 1;
  bool on_host = false;
  for (const Request& request : requests) {
    candidates = std::max(candidates, request.search->candidates());
    on_host = on_host || request.search->reads_rows() || changes_rows(request.options);
  }
  const Tensor rows = on_host ? logits.to(cpu_device) : logits;
  const auto own_rows = [&](const Request& request) {
    return rows.narrow(request.first_row - first_row, static_cast<int64_t>(request.search->live().size()));
  };
  std::vector<std::optional<std::vector<float>>> changed(requests.size());  // softmax before the changes
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    if (!changes_rows(request.options)) continue;
    changed[i] =
        change_rows(own_rows(request), *request.search, request.entry.prefix, request.options, vocabulary_);
  }
  const auto [id_rows, value_rows, softmax_rows] = top_k(rows, candidates);
  const auto ids = to_host<int32_t>(id_rows);
  const auto values = to_host<float>(value_rows);
  auto softmax = to_host<float>(softmax_rows);
  std::vector<std::vector<float>> attention;
  if (keeps_attention_) attention = steps_->attention();
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& request = requests[i];
    const int64_t row = request.first_row - first_row, k = id_rows.dim(1);
    float* of_rows = changed[i] ? changed[i]->data() : softmax.data() + 2 * row;
    if (request.options.renormalize) {
      settle_empty_rows(of_rows, static_cast<int64_t>(request.search->live().size()));
    }
    try {
      request.search->step({
          .k = k,
          .ids = ids.data() + row * k,
          .logits = values.data() + row * k,
          .softmax = of_rows,
          .all = on_host ? std::optional(own_rows(request)) : std::nullopt,
          .attention = keeps_attention_ ? attention.data() + row : nullptr,
      });
    } catch (...) {
      ended_[request.key] = {{}, std::current_exception()};
    }
  }
}

void Generation::settle(std::vector<Request>& requests, std::vector<int64_t>& keys) {
  std::erase_if(requests, [&](const Request& request) {
    if (!ended_.contains(request.key)) {
      if (!request.search->done()) return false;
      ended_[request.key] = {request.search->result(), nullptr};
    }
    keys.push_back(request.key);
    return true;
  });
}

void Generation::leave() {
  if (model_rows_ == 0) return;
  model_rows_ = 0;
  steps_->next({}, {});
}

std::vector<Hypothesis> Generation::take(int64_t key) {
  const auto found = ended_.find(key);
  CHECK(found != ended_.end(), "take: key must be of a request that ended and was not taken, got ", key);
  const Ended ended = std::move(found->second);
  ended_.erase(found);
  if (ended.error) std::rethrow_exception(ended.error);
  return ended.result;
}

std::vector<int32_t> Generation::stable(int64_t key) const {
  if (const auto found = ended_.find(key); found != ended_.end()) {
    return found->second.result.empty() ? std::vector<int32_t>() : found->second.result.front().ids;
  }
  for (const std::vector<Request>* requests : {&running_, &waiting_}) {
    for (const Request& request : *requests) {
      if (request.key == key) return request.search->stable();
    }
  }
  throw ValueError(concat("stable: key must be of a request that was not taken, got ", key));
}

void Generation::cancel(int64_t key) {
  const auto is_it = [key](const Request& request) { return request.key == key; };
  std::erase_if(running_, is_it);
  std::erase_if(waiting_, is_it);
  std::erase(done_, key);
  ended_.erase(key);
}

int64_t Generation::pending() const {
  return static_cast<int64_t>(running_.size() + waiting_.size() + done_.size());
}

int64_t Generation::rows() const {
  int64_t rows = 0;
  for (const Request& request : running_) rows += static_cast<int64_t>(request.search->live().size());
  return rows;
}

}  // namespace dragoman
