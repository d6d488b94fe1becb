#include "decode/replayed_steps.h"

#include <algorithm>
#include <limits>

#include "decode/host.h"
#include "ops/kv_cache.h"
#include "ops/slice.h"

namespace dragoman {

namespace {

Tensor ids_tensor(const std::vector<int32_t>& ids) {
  return Tensor::from_host(ids.data(), {static_cast<int64_t>(ids.size())}, DType::int32, cpu_device);
}

Sequences one_each(size_t rows) {
  return Sequences(std::vector<int64_t>(rows, 1));
}

// Lists of ids end to end.
struct Packed {
  std::vector<int32_t> ids;
  std::vector<int64_t> lengths;

  void add(const std::vector<int32_t>& more) {
    ids.insert(ids.end(), more.begin(), more.end());
    lengths.push_back(static_cast<int64_t>(more.size()));
  }
  int64_t longest() const { return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()); }
};

// The mean over the heads, for the last query of each sequence. weights: for each sequence in turn (heads,
// queries, keys).
std::vector<std::vector<float>> mean_of_heads(const Tensor& weights, const std::vector<int64_t>& queries,
                                              const std::vector<int64_t>& keys) {
  int64_t pairs = 0;
  for (size_t i = 0; i < keys.size(); ++i) pairs += queries[i] * keys[i];
  const int64_t heads = pairs == 0 ? 0 : weights.numel() / pairs;
  const std::vector<float> values = to_host<float>(weights);
  std::vector<std::vector<float>> means;
  const float* of_sequence = values.data();
  for (size_t i = 0; i < keys.size(); ++i) {
    std::vector<float>& mean = means.emplace_back(keys[i]);
    for (int64_t head = 0; head < heads; ++head) {
      const float* last = of_sequence + (head * queries[i] + queries[i] - 1) * keys[i];
      for (int64_t j = 0; j < keys[i]; ++j) mean[j] += last[j] / static_cast<float>(heads);
    }
    of_sequence += heads * queries[i] * keys[i];
  }
  return means;
}

// The logits of `tokens` among those of a whole vocabulary, the others -inf; on the host, where a search that
// forbids tokens reads them.
Tensor widened(const Tensor& logits, const std::vector<int32_t>& tokens, int64_t vocabulary) {
  const Tensor narrow = logits.to(cpu_device), all = Tensor::empty({logits.dim(0), vocabulary});
  const float* from = narrow.data<float>();
  std::fill_n(all.data<float>(), all.numel(), -std::numeric_limits<float>::infinity());
  for (int64_t row = 0; row < all.dim(0); ++row) {
    float* to = all.data<float>() + row * vocabulary;
    for (const int32_t token : tokens) to[token] = *from++;
  }
  return all;
}

bool brings_memory(const Entry& entry) {
  return entry.memory.has_value();
}

// The memories of all entries, end to end, (rows, features), and the rows of each.
std::vector<Value> joined_memories(const std::vector<Entry>& entries) {
  CHECK(std::ranges::all_of(entries, brings_memory), "add: all entries must bring a memory, or none");
  std::vector<Tensor> parts;
  std::vector<int64_t> lengths;
  for (const Entry& entry : entries) {
    parts.push_back(*entry.memory);
    lengths.push_back(entry.memory->dim(0));
  }
  while (parts.size() > 1) {  // halves their number, so that each row is copied a few times at most
    std::vector<Tensor> pairs;
    for (size_t i = 0; i + 1 < parts.size(); i += 2) {
      pairs.push_back(concat_forward(parts[i], parts[i + 1], std::nullopt, std::nullopt, 0));
    }
    if (parts.size() % 2 == 1) pairs.push_back(parts.back());
    parts = std::move(pairs);
  }
  return {parts.front(), Sequences(lengths)};
}

bool is_identity(const std::vector<int64_t>& parents, int64_t rows) {
  if (static_cast<int64_t>(parents.size()) != rows) return false;
  for (int64_t i = 0; i < rows; ++i) {
    if (parents[i] != i) return false;
  }
  return true;
}

}  // namespace

ReplayedSteps::ReplayedSteps(std::shared_ptr<const StepPrograms> programs, Renew renew)
    : programs_(std::move(programs)), renew_(std::move(renew)), cache_(std::make_shared<KVCache>(0)) {}

void ReplayedSteps::make_room(int64_t source, int64_t text) {
  if (source <= programs_->longest_source && text <= programs_->longest) return;
  programs_ = renew_(std::max(source, programs_->longest_source), std::max(text, programs_->longest),
                     programs_->keeps_attention, tokens_);
}

void ReplayedSteps::keep_attention(bool kept) {
  if (kept == programs_->keeps_attention) return;
  programs_ = renew_(programs_->longest_source, programs_->longest, kept, tokens_);
}

void ReplayedSteps::narrow(const std::vector<int32_t>& tokens) {
  programs_ = renew_(programs_->longest_source, programs_->longest, programs_->keeps_attention, tokens);
  tokens_ = tokens;
}

Tensor ReplayedSteps::replay(const Program& program, const std::vector<Value>& inputs, const KVCache& cache,
                             const std::vector<int64_t>& queries) {
  const std::vector<Value> outputs = program.replay(inputs);
  if (programs_->keeps_attention) {
    attention_ = mean_of_heads(std::get<Tensor>(outputs[1]), queries, cache.sources()->lengths());
  }
  const Tensor& logits = std::get<Tensor>(outputs[0]);
  return programs_->tokens.empty() ? logits : widened(logits, programs_->tokens, programs_->vocabulary);
}

Tensor ReplayedSteps::add(const std::vector<Entry>& entries) {
  Packed sources, prefixes;
  std::vector<int32_t> last;
  for (const Entry& entry : entries) {
    CHECK(!entry.prefix.empty(), "add: prefix must hold at least one id, got none");
    CHECK(programs_->reads_source || (entry.source.empty() && !brings_memory(entry)),
          "add: source must be empty for a model without an encoder, got ", entry.source.size(), " ids");
    sources.add(entry.source);
    prefixes.add(entry.prefix);
    last.push_back(static_cast<int32_t>(prefixes.ids.size()) - 1);
  }
  if (used_ && cache_->own().size() == 0) {
    // The model may have changed.
    programs_ = renew_(programs_->longest_source, programs_->longest, programs_->keeps_attention, tokens_);
  }
  used_ = true;
  std::vector<Value> inputs;
  if (std::ranges::any_of(entries, brings_memory)) inputs = joined_memories(entries);
  make_room(sources.longest(), prefixes.longest());
  const auto added = std::make_shared<KVCache>(static_cast<int64_t>(entries.size()), programs_->cache_dtype);
  if (programs_->reads_source && inputs.empty())
    inputs = {ids_tensor(sources.ids), Sequences(sources.lengths)};
  inputs.insert(inputs.end(), {ids_tensor(prefixes.ids), Sequences(prefixes.lengths), ids_tensor(last),
                               one_each(entries.size()), added});
  const Tensor logits = replay(*programs_->first, inputs, *added, prefixes.lengths);
  kv_cache_join(cache_, added);
  return logits;
}

Tensor ReplayedSteps::next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) {
  CHECK(ids.size() == parents.size(), "next: ids must have a parent each, got ", ids.size(), " ids and ",
        parents.size(), " parents");
  const int64_t rows = cache_->own().size();
  if (!is_identity(parents, rows)) {
    std::vector<int32_t> indices;
    for (const int64_t parent : parents) {
      CHECK(parent >= 0 && parent < rows, "next: parents must lie in [0, ", rows, "), got ", parent);
      indices.push_back(static_cast<int32_t>(parent));
    }
    kv_cache_reorder(cache_, ids_tensor(indices));
    kv_cache_compact(cache_);
  }
  if (ids.empty()) return Tensor::empty({0, 0});
  make_room(0, cache_->own().max_length() + 1);
  return replay(*programs_->step, {ids_tensor(ids), one_each(ids.size()), cache_}, *cache_,
                std::vector<int64_t>(ids.size(), 1));
}

}  // namespace dragoman
