// ReplayedSteps: the steps of a model without Python. The model's calls were recorded once, as two Programs;
// each step replays one of them on a KVCache.
#pragma once

#include <functional>
#include <memory>

#include "core/kv_cache.h"
#include "core/program.h"
#include "decode/steps.h"

namespace dragoman {

// `first` reads sources and prefixes and fills an empty cache. `step` reads one token of each sequence.
// Inputs of `first`, for n sequences:
//   source ids (source tokens,) and their Sequences, for a model with an encoder. Entries that bring the
//     encoder's output give its rows (source tokens, features) instead of the ids.
//   prefix ids (prefix tokens,) and their Sequences
//   the row of the last token of each prefix (n,), and a Sequences of n times one row
//   an empty cache of n sequences
// Inputs of `step`:
//   ids (n,), a Sequences of n times one row, the cache
// Outputs of both:
//   the logits of the next token, (n, vocabulary)
//   with keeps_attention, the weights of one attention to the source: for each sequence
//     (heads, queries, keys), one after the other
struct StepPrograms {
  std::shared_ptr<const Program> first, step;
  bool reads_source;
  // Tables of positions are constants of the Programs, which therefore fit sources and texts of at most these
  // lengths.
  int64_t longest_source, longest;
  bool keeps_attention;
  DType cache_dtype;  // of keys and values
  // The tokens whose logits the Programs compute; empty: all. `vocabulary` is the size of the whole
  // vocabulary.
  std::vector<int32_t> tokens;
  int64_t vocabulary;
};

class ReplayedSteps : public Steps {
 public:
  // Records the model again and returns the new Programs, for at least these lengths. Called when
  //   - a source or a text is longer than the present Programs allow;
  //   - rows join a cache that was used and is empty again: the weights may have changed since;
  //   - the attention, or the logits of other tokens, are asked for.
  // May throw what the model throws.
  using Renew = std::function<std::shared_ptr<const StepPrograms>(
      int64_t longest_source, int64_t longest, bool keeps_attention, const std::vector<int32_t>& tokens)>;

  ReplayedSteps(std::shared_ptr<const StepPrograms> programs, Renew renew);

  Tensor add(const std::vector<Entry>& entries) override;
  Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) override;
  void keep_attention(bool kept) override;
  std::vector<std::vector<float>> attention() override { return attention_; }
  void narrow(const std::vector<int32_t>& tokens) override;

 private:
  void make_room(int64_t source, int64_t text);  // renews the Programs for these lengths, where it must
  // Runs a Program and returns the logits, (sequences, vocabulary). Keeps the attention of each sequence's
  // last row; queries[i] is the number of rows that sequence i has in this call.
  Tensor replay(const Program& program, const std::vector<Value>& inputs, const KVCache& cache,
                const std::vector<int64_t>& queries);

  std::shared_ptr<const StepPrograms> programs_;
  Renew renew_;
  std::shared_ptr<KVCache> cache_;  // of all rows
  bool used_ = false;
  std::vector<std::vector<float>> attention_;
  std::vector<int32_t> tokens_;  // whose logits are needed; empty: all
};

}  // namespace dragoman
