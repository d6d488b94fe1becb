// Steps of a model whose calls were recorded: two Programs and a KVCache, without Python.
#pragma once

#include <functional>
#include <memory>

#include "core/kv_cache.h"
#include "core/program.h"
#include "decode/steps.h"

namespace dragoman {

// Inputs of `first`: source ids and their Sequences where the model reads a source, or the rows of memories
// that the entries bring in the place of the ids; ids of the prefixes and their Sequences; the last row of
// each; a Sequences of one row each; an empty cache of as many sequences. It fills the cache. Inputs of
// `step`: an id for each sequence, a Sequences of one row each, the cache. Both give the logits of the next
// token, (sequences, vocabulary), and, where they keep attention, the weights of one attention to the source,
// for each sequence in turn (heads, queries, keys).
struct StepPrograms {
  std::shared_ptr<const Program> first, step;
  bool reads_source;
  // Tables of positions are constants: the Programs hold for sources and texts up to these lengths.
  int64_t longest_source, longest;
  bool keeps_attention;
  DType cache_dtype;  // of keys and values
  // The tokens that the logits are of, of a vocabulary of this size; empty: all.
  std::vector<int32_t> tokens;
  int64_t vocabulary;
};

class ReplayedSteps : public Steps {
 public:
  // Called when a length is not below what the Programs hold for, before rows join an empty cache that was
  // used, and for Programs that keep attention or do not, with logits of these tokens or of all: returns
  // Programs for these lengths, of the model as it is now. May throw.
  using Renew = std::function<std::shared_ptr<const StepPrograms>(
      int64_t longest_source, int64_t longest, bool keeps_attention, const std::vector<int32_t>& tokens)>;

  ReplayedSteps(std::shared_ptr<const StepPrograms> programs, Renew renew);

  Tensor add(const std::vector<Entry>& entries) override;
  Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) override;
  void keep_attention(bool kept) override;
  std::vector<std::vector<float>> attention() override { return attention_; }
  void narrow(const std::vector<int32_t>& tokens) override;

 private:
  void make_room(int64_t source, int64_t text);
  // Replays a Program, the last of `queries` rows of each sequence asks. Returns the logits.
  Tensor replay(const Program& program, const std::vector<Value>& inputs, const KVCache& cache,
                const std::vector<int64_t>& queries);

  std::shared_ptr<const StepPrograms> programs_;
  Renew renew_;
  std::shared_ptr<KVCache> cache_;  // of all rows
  bool used_ = false;
  std::vector<std::vector<float>> attention_;
  std::vector<int32_t> tokens_;  // that logits are needed of; empty: all
};

}  // namespace dragoman
