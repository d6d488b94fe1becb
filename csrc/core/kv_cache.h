// What a decoder keeps between two steps: the keys and values of past tokens, and those of the memory, for
// every attention. A handle: copies of the shared_ptr are the same cache. Ops of csrc/ops/kv_cache.h change
// it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "core/kv_places.h"
#include "core/tensor.h"

namespace dragoman {

struct KeysValues {
  Tensor k, v;
};

class KVCache {
 public:
  // Rows that come in float32 are kept in `dtype`, float32 or bfloat16; others stay as they are. ValueError
  // when num_sequences is negative.
  explicit KVCache(int64_t num_sequences, DType dtype = DType::float32);

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

  DType dtype() const { return dtype_; }
  void set_dtype(DType dtype) { dtype_ = dtype; }  // of rows that are still to come
  const KVPlaces& places() const { return places_; }
  int64_t slot_size() const { return slot_size_; }
  int64_t num_slots() const { return num_slots_; }  // that every buffer of `decoded` has room for
  const Sequences& own() const { return own_; }     // where the next rows of each sequence go
  const Sequences& read() const { return read_; }   // where its rows lie
  void set_places(KVPlaces places, int64_t slot_size, int64_t num_slots);
  void extend(const std::vector<int64_t>& new_rows);  // of each sequence; there must be room
  int64_t slot_size_for(int64_t length) const;        // the present one, doubled until there is room

  // Where the encoder's output for each sequence lies, in every buffer of `memory`. Sequences may share rows.
  // None before the first set_sources. Only the first `memory_rows` rows of the buffers may be in use.
  const std::optional<Sequences>& sources() const { return sources_; }
  int64_t memory_rows() const { return memory_rows_; }
  void set_sources(std::optional<Sequences> sources, int64_t memory_rows) noexcept;

  // The key is the number of the attention in the model. The first rows that arrive decide dtype and
  // features.
  std::map<int64_t, KeysValues> decoded;  // (num_slots * slot_size, features)
  std::map<int64_t, KeysValues> memory;   // (rows of the memory, features)

 private:
  mutable std::atomic_flag used_;
  DType dtype_;
  KVPlaces places_;
  int64_t slot_size_, num_slots_;
  Sequences own_, read_;
  std::optional<Sequences> sources_;
  int64_t memory_rows_ = 0;
};

}  // namespace dragoman
