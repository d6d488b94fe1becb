// kv_cache: the ops that write and read a KVCache (core/kv_cache.h). A cache is an argument like any other,
// so a recorded decoding step can be replayed on another cache.
#pragma once

#include <memory>
#include <optional>
#include <tuple>

#include "core/kv_cache.h"

namespace dragoman {

// Row r of sequence i goes to row lengths[i] - (new rows of i) + r of its slot: `sequences`, which says where
// each slot begins, already counts the new rows. Rows are copied as bytes, whatever their dtype.
struct KVCacheAppend {
  const void* k;  // (new_rows, row_bytes)
  const void* v;  // (new_rows, row_bytes)
  void* k_cache;  // (num_sequences * slot, row_bytes)
  void* v_cache;  // (num_sequences * slot, row_bytes)
  int64_t row_bytes;
  SequencesView new_sequences, sequences;
};

// Sequence i of the outputs = sequence indices[i] of the inputs, of any layouts but indexed ones.
struct KVCacheReorder {
  const void* k;           // (num_sequences * slot, row_bytes)
  const void* v;           // (num_sequences * slot, row_bytes)
  void* k_out;             // (new_num_sequences * new slot, row_bytes)
  void* v_out;             // (new_num_sequences * new slot, row_bytes)
  const int32_t* indices;  // (new_num_sequences,)
  int64_t row_bytes;
  SequencesView sequences, out_sequences;
};

// Counts the rows of `new_sequences`, a packed batch of as many sequences, and makes room for them.
void kv_cache_extend(const std::shared_ptr<KVCache>& cache, const Sequences& new_sequences);

// Stores k and v (new_rows, features...), the rows that extend has counted, for the attention of this number,
// in the cache's dtype.
// Returns the buffers of all its keys and values, and where each sequence lies in them; indexed where
// sequences share rows.
std::tuple<Tensor, Tensor, Sequences> kv_cache_append(const std::shared_ptr<KVCache>& cache,
                                                      int64_t attention, const Tensor& k, const Tensor& v,
                                                      const Sequences& new_sequences);

// Keeps k and v (tokens of the memory, features...) for the attention of this number, in the cache's dtype.
void kv_cache_set_memory(const std::shared_ptr<KVCache>& cache, int64_t attention, const Tensor& k,
                         const Tensor& v);
// What set_memory has kept; ValueError when there is nothing.
std::tuple<Tensor, Tensor> kv_cache_memory(const std::shared_ptr<KVCache>& cache, int64_t attention);

// int32 (num_sequences,) position of the next token of each sequence, or of the first of the new rows that
// extend has counted.
Tensor kv_cache_starts(const std::shared_ptr<KVCache>& cache,
                       const std::optional<Sequences>& new_sequences = std::nullopt);

// Where the memory of each sequence lies in what kv_cache_memory returns. `sequences` says so the first time;
// later the cache knows. ValueError when neither does.
Sequences kv_cache_sources(const std::shared_ptr<KVCache>& cache,
                           const std::optional<Sequences>& sequences = std::nullopt);

// Sequence i goes on from what sequence indices[i] was; their number may change. It reads the same memory.
// No keys or values are copied.
void kv_cache_reorder(const std::shared_ptr<KVCache>& cache, const Tensor& indices);

// The sequences of `other`, with their memory, come after those of `cache`; `other` is empty afterwards.
// Memory that no sequence reads is freed.
void kv_cache_join(const std::shared_ptr<KVCache>& cache, const std::shared_ptr<KVCache>& other);

// Frees memory that no sequence reads, when it is more than half of all; everything when there are no
// sequences.
void kv_cache_compact(const std::shared_ptr<KVCache>& cache);

}  // namespace dragoman
