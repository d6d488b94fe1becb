#include "ops/kv_cache.h"

#include <algorithm>
#include <numeric>

#include "core/backend.h"
#include "ops/indices.h"

namespace dragoman {

namespace {

int64_t row_bytes(const Tensor& rows) {
  return element_count(Shape(rows.shape().begin() + 1, rows.shape().end())) * item_size(rows.dtype());
}

Tensor empty_like(const Tensor& rows, int64_t count) {
  Shape shape = rows.shape();
  shape[0] = count;
  return Tensor::empty(shape, rows.dtype(), rows.device());
}

void check_keys_values(const Tensor& k, const Tensor& v) {
  check_activations("KVCache", "k", k);
  CHECK(k.rank() >= 2, "KVCache: k must have at least 2 dimensions, got shape ", k.shape());
  check_dtype("KVCache", "v", v, k.dtype());
  check_shape("KVCache", "v", v, k.shape());
}

void check_attention(int64_t attention) {
  CHECK(attention >= 0, "KVCache: attention must be at least 0, got ", attention);
}

// Checks that extend has counted the rows of `new_sequences`.
void check_counted(const Sequences& sequences, const Sequences& new_sequences) {
  CHECK(new_sequences.size() == sequences.size(), "KVCache: new must have ", sequences.size(),
        " sequences, got ", new_sequences.size());
  for (int64_t i = 0; i < sequences.size(); ++i) {
    CHECK(new_sequences.lengths()[i] <= sequences.lengths()[i],
          "KVCache: extend must count the rows of new first, got length ", sequences.lengths()[i], " with ",
          new_sequences.lengths()[i], " new rows for sequence ", i);
  }
}

// Every buffer of the cache in a new order, and in slots of another size.
void reorder(KVCache& cache, const Tensor& indices, std::vector<int64_t> lengths, int64_t slot) {
  const Sequences out_sequences = Sequences::slotted(std::move(lengths), slot);
  std::map<int64_t, KeysValues> decoded;
  for (const auto& [attention, rows] : cache.decoded) {
    KeysValues out{empty_like(rows.k, out_sequences.capacity()),
                   empty_like(rows.v, out_sequences.capacity())};
    const Tensor device_indices = indices.to(rows.k.device());
    kernels(rows.k).kv_cache_reorder({.k = rows.k.raw(),
                                      .v = rows.v.raw(),
                                      .k_out = out.k.raw(),
                                      .v_out = out.v.raw(),
                                      .indices = device_indices.data<int32_t>(),
                                      .row_bytes = row_bytes(rows.k),
                                      .sequences = cache.sequences().view(rows.k.device()),
                                      .out_sequences = out_sequences.view(rows.k.device())});
    decoded.emplace(attention, std::move(out));
  }
  cache.decoded = std::move(decoded);
  cache.set_sequences(out_sequences, slot);
}

// The same sequences in larger slots.
void grow(KVCache& cache, int64_t slot) {
  const int64_t count = cache.sequences().size();
  const Tensor indices = Tensor::empty({count}, DType::int32);
  std::iota(indices.data<int32_t>(), indices.data<int32_t>() + count, 0);
  reorder(cache, indices, cache.sequences().lengths(), slot);
}

}  // namespace

void kv_cache_extend(const std::shared_ptr<KVCache>& cache, const Sequences& new_sequences) {
  const KVCache::Use use(*cache);
  std::vector<int64_t> lengths = cache->sequences().lengths();
  CHECK(new_sequences.packed(), "KVCache: new must be packed, got a slotted or selected layout");
  CHECK(new_sequences.size() == cache->sequences().size(), "KVCache: new must have ",
        cache->sequences().size(), " sequences, got ", new_sequences.size());
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] += new_sequences.lengths()[i];
  const int64_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  const int64_t slot = cache->slot_for(longest);
  if (slot > cache->slot()) grow(*cache, slot);
  cache->set_sequences(Sequences::slotted(std::move(lengths), slot), slot);
}

std::tuple<Tensor, Tensor, Sequences> kv_cache_append(const std::shared_ptr<KVCache>& cache,
                                                      int64_t attention, const Tensor& k, const Tensor& v,
                                                      const Sequences& new_sequences) {
  const KVCache::Use use(*cache);
  const Sequences& sequences = cache->sequences();
  check_attention(attention);
  check_keys_values(k, v);
  check_rows("KVCache", "new", new_sequences, k);
  check_counted(sequences, new_sequences);
  auto found = cache->decoded.find(attention);
  if (found == cache->decoded.end()) {
    const KeysValues empty{empty_like(k, sequences.capacity()), empty_like(v, sequences.capacity())};
    found = cache->decoded.emplace(attention, empty).first;
  }
  const KeysValues& rows = found->second;
  Shape expected = rows.k.shape();
  expected[0] = k.dim(0);
  check_dtype("KVCache", "k", k, rows.k.dtype());
  CHECK(k.device() == rows.k.device(), "KVCache: k must be on ", name(rows.k.device()),
        ", as the rows before, got ", name(k.device()));
  check_shape("KVCache", "k", k, expected);
  kernels(k).kv_cache_append({.k = k.raw(),
                              .v = v.raw(),
                              .k_cache = rows.k.raw(),
                              .v_cache = rows.v.raw(),
                              .row_bytes = row_bytes(k),
                              .new_sequences = new_sequences.view(k.device()),
                              .sequences = sequences.view(k.device())});
  return {rows.k, rows.v, sequences};
}

void kv_cache_set_memory(const std::shared_ptr<KVCache>& cache, int64_t attention, const Tensor& k,
                         const Tensor& v) {
  const KVCache::Use use(*cache);
  check_attention(attention);
  check_keys_values(k, v);
  cache->memory.insert_or_assign(attention, KeysValues{k, v});
}

std::tuple<Tensor, Tensor> kv_cache_memory(const std::shared_ptr<KVCache>& cache, int64_t attention) {
  const KVCache::Use use(*cache);
  const auto found = cache->memory.find(attention);
  CHECK(found != cache->memory.end(), "KVCache: the cache must hold the memory for attention ", attention,
        ", got none");
  return {found->second.k, found->second.v};
}

Tensor kv_cache_starts(const std::shared_ptr<KVCache>& cache, const std::optional<Sequences>& new_sequences) {
  const KVCache::Use use(*cache);
  const Sequences& sequences = cache->sequences();
  if (new_sequences) check_counted(sequences, *new_sequences);
  Tensor starts = Tensor::empty({sequences.size()}, DType::int32);
  for (int64_t i = 0; i < sequences.size(); ++i) {
    const int64_t counted = new_sequences ? new_sequences->lengths()[i] : 0;
    starts.data<int32_t>()[i] = static_cast<int32_t>(sequences.lengths()[i] - counted);
  }
  return starts;
}

void kv_cache_reorder(const std::shared_ptr<KVCache>& cache, const Tensor& indices) {
  const KVCache::Use use(*cache);
  check_indices("KVCache", "indices", indices);
  check_rank("KVCache", "indices", indices, 1);
  const int64_t count = indices.dim(0);
  const Tensor checked = checked_indices("KVCache", "indices", indices, count, 0, cache->sequences().size());
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) {
    lengths.push_back(cache->sequences().lengths()[checked.data<int32_t>()[i]]);
  }
  reorder(*cache, checked, std::move(lengths), cache->slot());
}

}  // namespace dragoman
