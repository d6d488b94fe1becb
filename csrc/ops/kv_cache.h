// kv_cache: keys or values of past tokens, one slot of rows per sequence (Sequences.slotted).
#pragma once

#include <vector>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// Row r of sequence i goes to slot row lengths[i] - (new rows of i) + r: `sequences` already counts the new
// rows.
struct KVCacheAppend {
  const float* rows;  // (new_rows, features)
  float* cache;       // (num_sequences * slot, features)
  int64_t features;
  SequencesView new_sequences, sequences;
};

// out slot i = cache slot indices[i].
struct KVCacheReorder {
  const float* cache;      // (num_sequences * slot, features)
  const int32_t* indices;  // (new_num_sequences,)
  float* out;              // (new_num_sequences * slot, features)
  int64_t slot, features, num_indices;
};

void kv_cache_append(const Tensor& cache, const Tensor& rows, const Sequences& new_sequences,
                     const Sequences& sequences);
Tensor kv_cache_reorder(const Tensor& cache, const Tensor& indices, int64_t slot);

}  // namespace dragoman
