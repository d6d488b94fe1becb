#include "ops/kv_cache.h"

#include "core/backend.h"

namespace dragoman {

namespace {

// Number of elements of a row: the product of all axes after the first.
int64_t row_size(const Tensor& tensor) {
  return element_count(Shape(tensor.shape().begin() + 1, tensor.shape().end()));
}

void check_cache(const char* op, const Tensor& cache) {
  check_dtype(op, "cache", cache, DType::float32);
  CHECK(cache.rank() >= 2, op, ": cache must have at least 2 dimensions, got shape ", cache.shape());
}

}  // namespace

void kv_cache_append(const Tensor& cache, const Tensor& rows, const Sequences& new_sequences,
                     const Sequences& sequences) {
  check_cache("kv_cache_append", cache);
  check_writeable("kv_cache_append", "cache", cache);
  check_dtype("kv_cache_append", "rows", rows, DType::float32);
  check_rows("kv_cache_append", "new_sequences", new_sequences, rows);
  Shape expected = cache.shape();
  expected[0] = rows.dim(0);
  check_shape("kv_cache_append", "rows", rows, expected);
  CHECK(sequences.capacity() == cache.dim(0), "kv_cache_append: sequences must have capacity ", cache.dim(0),
        " (the rows of cache), got ", sequences.capacity());
  CHECK(new_sequences.size() == sequences.size(),
        "kv_cache_append: new_sequences must hold as many sequences as ", "sequences (", sequences.size(),
        "), got ", new_sequences.size());
  for (int64_t i = 0; i < sequences.size(); ++i) {
    CHECK(new_sequences.lengths()[i] <= sequences.lengths()[i],
          "kv_cache_append: sequences must count the new rows already, got length ", sequences.lengths()[i],
          " with ", new_sequences.lengths()[i], " new rows for sequence ", i);
  }
  kernels(cache).kv_cache_append({.rows = rows.data<float>(),
                                  .cache = cache.data<float>(),
                                  .features = row_size(cache),
                                  .new_sequences = new_sequences.view(),
                                  .sequences = sequences.view()});
}

Tensor kv_cache_reorder(const Tensor& cache, const Tensor& indices, int64_t slot) {
  check_cache("kv_cache_reorder", cache);
  CHECK(slot > 0 && cache.dim(0) % slot == 0, "kv_cache_reorder: slot must divide the ", cache.dim(0),
        " rows of cache, got ", slot);
  check_dtype("kv_cache_reorder", "indices", indices, DType::int32);
  check_rank("kv_cache_reorder", "indices", indices, 1);
  const int64_t num_slots = cache.dim(0) / slot;
  for (int64_t i = 0; i < indices.dim(0); ++i) {
    const int32_t index = indices.data<int32_t>()[i];
    CHECK(index >= 0 && index < num_slots, "kv_cache_reorder: indices must lie in [0, ", num_slots, "), got ",
          index, " at position ", i);
  }
  Shape shape = cache.shape();
  shape[0] = indices.dim(0) * slot;
  Tensor out = Tensor::empty(shape, DType::float32, cache.device());
  kernels(cache).kv_cache_reorder({.cache = cache.data<float>(),
                                   .indices = indices.data<int32_t>(),
                                   .out = out.data<float>(),
                                   .slot = slot,
                                   .features = row_size(cache),
                                   .num_indices = indices.dim(0)});
  return out;
}

}  // namespace dragoman
