#include "ops/kv_cache.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static void copy(void* to, int64_t to_byte, const void* from, int64_t from_byte, int64_t count) {
  if (count > 0) {
    __builtin_memcpy(static_cast<char*>(to) + to_byte, static_cast<const char*>(from) + from_byte,
                     static_cast<size_t>(count));
  }
}

// Sequences of a task: as many as have work enough for it.
static int64_t sequence_grain(const SequencesView& sequences, int64_t row_bytes) {
  return row_grain(2 * row_bytes / static_cast<int64_t>(sizeof(float)) * sequences.max_length);
}

void kv_cache_append(const KVCacheAppend& p) {
  const int64_t grain = sequence_grain(p.new_sequences, p.row_bytes);
  parallel_for(p.sequences.num_sequences, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t count = p.new_sequences.lengths[i];
      const int64_t to = (p.sequences.offsets[i] + p.sequences.lengths[i] - count) * p.row_bytes;
      const int64_t from = p.new_sequences.offsets[i] * p.row_bytes;
      copy(p.k_cache, to, p.k, from, count * p.row_bytes);
      copy(p.v_cache, to, p.v, from, count * p.row_bytes);
    }
  });
}

void kv_cache_reorder(const KVCacheReorder& p) {
  const int64_t grain = sequence_grain(p.out_sequences, p.row_bytes);
  parallel_for(p.out_sequences.num_sequences, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t to = p.out_sequences.offsets[i] * p.row_bytes;
      const int64_t from = p.sequences.offsets[p.indices[i]] * p.row_bytes;
      const int64_t count = p.out_sequences.lengths[i] * p.row_bytes;
      copy(p.k_out, to, p.k, from, count);
      copy(p.v_out, to, p.v, from, count);
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
