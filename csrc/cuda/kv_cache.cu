#include "ops/kv_cache.h"

#include "cuda/copy_rows.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

// Row `row % max_length` of new sequence `row / max_length`, if it has so many.
struct AppendedRows {
  const void* from;  // (new_rows, row_bytes)
  void* to;          // (num_sequences * slot, row_bytes)
  int64_t row_bytes;
  SequencesView new_sequences, sequences;

  __device__ RowCopy operator()(int64_t row) const {
    const int64_t i = row / new_sequences.max_length, r = row - i * new_sequences.max_length;
    const int64_t count = new_sequences.lengths[i];
    if (r >= count) return {nullptr, nullptr};
    const int64_t at = sequences.offsets[i] + sequences.lengths[i] - count + r;
    return {static_cast<const char*>(from) + (new_sequences.offsets[i] + r) * row_bytes,
            static_cast<char*>(to) + at * row_bytes};
  }
};

struct ReorderedRows {
  const void* from;  // (num_sequences * slot, row_bytes)
  void* to;          // (new_num_sequences * new slot, row_bytes)
  int64_t row_bytes;
  const int32_t* indices;
  SequencesView sequences, out_sequences;

  __device__ RowCopy operator()(int64_t row) const {
    const int64_t i = row / out_sequences.max_length, r = row - i * out_sequences.max_length;
    if (r >= out_sequences.lengths[i]) return {nullptr, nullptr};
    return {static_cast<const char*>(from) + (sequences.offsets[indices[i]] + r) * row_bytes,
            static_cast<char*>(to) + (out_sequences.offsets[i] + r) * row_bytes};
  }
};

}  // namespace

void kv_cache_append(const KVCacheAppend& p) {
  const int64_t rows = p.new_sequences.num_sequences * p.new_sequences.max_length;
  const auto append = [&](const void* from, void* to) {
    copy_rows_by(rows, p.row_bytes, address_of(from) | address_of(to),
                 AppendedRows{from, to, p.row_bytes, p.new_sequences, p.sequences});
  };
  append(p.k, p.k_cache);
  append(p.v, p.v_cache);
}

void kv_cache_reorder(const KVCacheReorder& p) {
  const int64_t rows = p.out_sequences.num_sequences * p.out_sequences.max_length;
  const auto reorder = [&](const void* from, void* to) {
    copy_rows_by(rows, p.row_bytes, address_of(from) | address_of(to),
                 ReorderedRows{from, to, p.row_bytes, p.indices, p.sequences, p.out_sequences});
  };
  reorder(p.k, p.k_out);
  reorder(p.v, p.v_out);
}

}  // namespace dragoman::cuda
