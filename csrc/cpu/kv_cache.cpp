#include "ops/kv_cache.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static void copy(float* to, const float* from, int64_t count) {
  if (count > 0) __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

void kv_cache_append(const KVCacheAppend& p) {
  const int64_t grain = row_grain(p.features * p.new_sequences.max_length);
  parallel_for(p.sequences.num_sequences, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t count = p.new_sequences.lengths[i];
      const int64_t to_row = p.sequences.offsets[i] + p.sequences.lengths[i] - count;
      copy(p.cache + to_row * p.features, p.rows + p.new_sequences.offsets[i] * p.features,
           count * p.features);
    }
  });
}

void kv_cache_reorder(const KVCacheReorder& p) {
  const int64_t slot_size = p.slot * p.features;
  parallel_for(p.num_indices, row_grain(slot_size), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      copy(p.out + i * slot_size, p.cache + p.indices[i] * slot_size, slot_size);
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
