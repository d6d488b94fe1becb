// What a decoder keeps between two steps: the keys and values of past tokens, and those of the memory, for
// every attention. A handle: copies of the shared_ptr are the same cache. Ops of csrc/ops/kv_cache.h change
// it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

struct KeysValues {
  Tensor k, v;
};

class KVCache {
 public:
  explicit KVCache(int64_t num_sequences);  // ValueError when it is negative

  // During its lifetime the calling thread may read and change the cache. ValueError while another one does.
  class Use {
   public:
    explicit Use(const KVCache& cache);
    ~Use() { cache_.used_.clear(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    const KVCache& cache_;
  };

  // Where the rows of each sequence lie in every buffer of `decoded`: sequence i owns rows [i * slot,
  // (i + 1) * slot), of which the first lengths[i] are in use.
  const Sequences& sequences() const { return sequences_; }
  int64_t slot() const { return slot_; }
  void set_sequences(const Sequences& sequences, int64_t slot) noexcept;  // slotted, `slot` rows each
  // The present slot, doubled until `length` rows have room.
  int64_t slot_for(int64_t length) const;

  // Where the memory of each sequence lies in every buffer of `memory`; sequences may share one. None before
  // the first set_sources.
  const std::optional<Sequences>& sources() const { return sources_; }
  void set_sources(std::optional<Sequences> sources) noexcept { sources_ = std::move(sources); }

  // By the number of the attention. The dtype and the features are those of the first rows that came.
  std::map<int64_t, KeysValues> decoded;  // (num_sequences * slot, features)
  std::map<int64_t, KeysValues> memory;   // (tokens of the memory, features)

 private:
  mutable std::atomic_flag used_;
  int64_t slot_;
  Sequences sequences_;
  std::optional<Sequences> sources_;
};

}  // namespace dragoman
