#include "ops/kv_cache.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "core/backend.h"
#include "ops/elementwise.h"
#include "ops/indices.h"

namespace dragoman {

namespace {

// As the cache keeps rows. On CUDA, whose attention reads no other dtype than that of its queries, they stay
// as they are.
Tensor kept(const KVCache& cache, const Tensor& rows) {
  const bool narrow = rows.dtype() == DType::float32 && rows.device().kind != Device::Kind::cuda;
  return narrow && cache.dtype() == DType::bfloat16 ? cast(rows, name(DType::bfloat16)) : rows;
}

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

// int32 0, 1, 2 and so on.
Tensor count_up(int64_t count) {
  const Tensor indices = Tensor::empty({count}, DType::int32);
  std::iota(indices.data<int32_t>(), indices.data<int32_t>() + count, 0);
  return indices;
}

KeysValues empty_rows(const KeysValues& like, int64_t count) {
  return {empty_like(like.k, count), empty_like(like.v, count)};
}

// Sequence i of `out_sequences` becomes a copy of sequence indices[i] of `sequences`.
void copy_sequences(const KeysValues& rows, const Sequences& sequences, const Tensor& indices,
                    const KeysValues& out, const Sequences& out_sequences) {
  const Tensor device_indices = indices.to(rows.k.device());
  kernels(rows.k).kv_cache_reorder({.k = rows.k.raw(),
                                    .v = rows.v.raw(),
                                    .k_out = out.k.raw(),
                                    .v_out = out.v.raw(),
                                    .indices = device_indices.data<int32_t>(),
                                    .row_bytes = row_bytes(rows.k),
                                    .sequences = sequences.view(rows.k.device()),
                                    .out_sequences = out_sequences.view(rows.k.device())});
}

// The first rows of each slot, `rows` of them, where slot s begins at place[s].
Sequences slots_at(const std::vector<int64_t>& rows, const std::vector<int64_t>& place, int64_t slot_size,
                   int64_t num_slots) {
  std::vector<int64_t> offsets;
  for (const int64_t slot : place) offsets.push_back(slot * slot_size);
  return Sequences::placed(rows, std::move(offsets), slot_size * num_slots);
}

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> values(static_cast<size_t>(end - begin));
  std::iota(values.begin(), values.end(), begin);
  return values;
}

// The same slots in buffers of other sizes. Copies the rows in use.
void resize(KVCache& cache, int64_t slot_size, int64_t num_slots) {
  const std::vector<int64_t>& rows = cache.places().rows_of_slots();
  const int64_t count = cache.places().num_slots();
  const std::vector<int64_t> all = range(0, count);
  const Sequences from = slots_at(rows, all, cache.slot_size(), cache.num_slots());
  const Sequences to = slots_at(rows, all, slot_size, num_slots);
  std::map<int64_t, KeysValues> decoded;
  for (const auto& [attention, buffers] : cache.decoded) {
    const KeysValues out = empty_rows(buffers, to.capacity());
    copy_sequences(buffers, from, count_up(count), out, to);
    decoded.emplace(attention, out);
  }
  cache.set_places(cache.places(), slot_size, num_slots);
  cache.decoded = std::move(decoded);
}

// Makes room for `num_slots` slots of at least this size.
void make_room(KVCache& cache, int64_t slot_size, int64_t num_slots) {
  if (slot_size == cache.slot_size() && num_slots <= cache.num_slots()) return;
  const int64_t present = cache.num_slots();
  resize(cache, slot_size, num_slots <= present ? present : std::max(num_slots, 2 * present));
}

// The sources that sequences read, each once, and which of them each sequence reads.
struct DistinctSources {
  Sequences sources;
  std::vector<int64_t> of_sequence;

  explicit DistinctSources(const Sequences& read) : sources(read) {
    std::map<std::pair<int64_t, int64_t>, int64_t> known;  // by offset and length
    std::vector<int64_t> firsts;
    for (int64_t i = 0; i < read.size(); ++i) {
      const auto place = std::make_pair(read.offsets()[i], read.lengths()[i]);
      const auto [found, is_new] = known.emplace(place, static_cast<int64_t>(firsts.size()));
      if (is_new) firsts.push_back(i);
      of_sequence.push_back(found->second);
    }
    sources = read.select(firsts);
  }
};

// The memory that sequences of `cache` read, each source once, in new buffers with room for `room` more rows.
void gather_memory(KVCache& cache, int64_t room) {
  const DistinctSources used(*cache.sources());
  const int64_t rows = used.sources.tokens();
  std::vector<int64_t> offsets{0};
  for (const int64_t length : used.sources.lengths()) offsets.push_back(offsets.back() + length);
  offsets.pop_back();
  const Sequences placed = Sequences::placed(used.sources.lengths(), std::move(offsets), rows + room);
  std::map<int64_t, KeysValues> memory;
  for (const auto& [attention, buffers] : cache.memory) {
    const KeysValues out = empty_rows(buffers, rows + room);
    copy_sequences(buffers, used.sources, count_up(placed.size()), out, placed);
    memory.emplace(attention, out);
  }
  cache.memory = std::move(memory);
  cache.set_sources(placed.select(used.of_sequence), rows);
}

// The memory that sequences of `other` read, after that of `cache`, whose sources its sequences stay.
void join_memory(KVCache& cache, const KVCache& other) {
  const DistinctSources added(*other.sources());
  const int64_t more = added.sources.tokens();
  if (cache.memory_rows() + more > cache.sources()->capacity()) {
    gather_memory(cache, std::max(more, cache.memory_rows()));
  }
  std::vector<int64_t> offsets{cache.memory_rows()};
  for (const int64_t length : added.sources.lengths()) offsets.push_back(offsets.back() + length);
  offsets.pop_back();
  const int64_t capacity = cache.sources()->capacity();
  const Sequences placed = Sequences::placed(added.sources.lengths(), offsets, capacity);
  for (const auto& [attention, buffers] : cache.memory) {
    copy_sequences(other.memory.at(attention), added.sources, count_up(placed.size()), buffers, placed);
  }
  std::vector<int64_t> all_lengths = cache.sources()->lengths(), all_offsets = cache.sources()->offsets();
  all_offsets.pop_back();
  for (const int64_t source : added.of_sequence) {
    all_lengths.push_back(placed.lengths()[source]);
    all_offsets.push_back(offsets[source]);
  }
  cache.set_sources(Sequences::placed(std::move(all_lengths), std::move(all_offsets), capacity),
                    cache.memory_rows() + more);
}

void clear(KVCache& cache) {
  cache.set_places(KVPlaces(0), cache.slot_size(), 0);
  cache.decoded.clear();
  cache.memory.clear();
  cache.set_sources(std::nullopt, 0);
}

// Checks that the two caches hold rows of the same attentions, features and dtypes.
void check_alike(const char* what, const std::map<int64_t, KeysValues>& a,
                 const std::map<int64_t, KeysValues>& b) {
  CHECK(a.size() == b.size(), "KVCache: other must hold ", what, " for ", a.size(), " attentions, got ",
        b.size());
  for (const auto& [attention, rows] : a) {
    const auto found = b.find(attention);
    CHECK(found != b.end(), "KVCache: other must hold ", what, " for attention ", attention, ", got none");
    Shape expected = rows.k.shape();
    expected[0] = found->second.k.dim(0);
    check_dtype("KVCache", "other", found->second.k, rows.k.dtype());
    check_shape("KVCache", "other", found->second.k, expected);
    CHECK(rows.k.device() == found->second.k.device(), "KVCache: other must be on ", name(rows.k.device()),
          ", got ", name(found->second.k.device()));
  }
}

}  // namespace

void kv_cache_extend(const std::shared_ptr<KVCache>& cache, const Sequences& new_sequences) {
  const KVCache::Use use(*cache);
  const std::vector<int64_t>&lengths = cache->places().lengths(), &new_rows = new_sequences.lengths();
  CHECK(new_sequences.packed(), "KVCache: new must be packed, got a slotted or selected layout");
  CHECK(new_rows.size() == lengths.size(), "KVCache: new must have ", lengths.size(), " sequences, got ",
        new_rows.size());
  int64_t longest = 0;
  for (size_t i = 0; i < lengths.size(); ++i) longest = std::max(longest, lengths[i] + new_rows[i]);
  make_room(*cache, cache->slot_size_for(longest), cache->places().num_slots());
  cache->extend(new_rows);
}

std::tuple<Tensor, Tensor, Sequences> kv_cache_append(const std::shared_ptr<KVCache>& cache,
                                                      int64_t attention, const Tensor& new_k,
                                                      const Tensor& new_v, const Sequences& new_sequences) {
  const KVCache::Use use(*cache);
  const Sequences& own = cache->own();
  check_attention(attention);
  check_keys_values(new_k, new_v);
  check_rows("KVCache", "new", new_sequences, new_k);
  check_counted(own, new_sequences);
  const Tensor k = kept(*cache, new_k), v = kept(*cache, new_v);
  auto found = cache->decoded.find(attention);
  if (found == cache->decoded.end()) {
    found = cache->decoded.emplace(attention, empty_rows({k, v}, own.capacity())).first;
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
                              .sequences = own.view(k.device())});
  return {rows.k, rows.v, cache->read()};
}

void kv_cache_set_memory(const std::shared_ptr<KVCache>& cache, int64_t attention, const Tensor& k,
                         const Tensor& v) {
  const KVCache::Use use(*cache);
  check_attention(attention);
  check_keys_values(k, v);
  cache->memory.insert_or_assign(attention, KeysValues{kept(*cache, k), kept(*cache, v)});
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
  const Sequences& own = cache->own();
  if (new_sequences) check_counted(own, *new_sequences);
  Tensor starts = Tensor::empty({own.size()}, DType::int32);
  for (int64_t i = 0; i < own.size(); ++i) {
    const int64_t counted = new_sequences ? new_sequences->lengths()[i] : 0;
    starts.data<int32_t>()[i] = static_cast<int32_t>(own.lengths()[i] - counted);
  }
  return starts;
}

void kv_cache_reorder(const std::shared_ptr<KVCache>& cache, const Tensor& indices) {
  const KVCache::Use use(*cache);
  check_indices("KVCache", "indices", indices);
  check_rank("KVCache", "indices", indices, 1);
  const int64_t count = indices.dim(0);
  const Tensor checked = checked_indices("KVCache", "indices", indices, count, 0, cache->own().size());
  const std::vector<int64_t> parents(checked.data<int32_t>(), checked.data<int32_t>() + count);
  KVPlaces places = cache->places().reordered(parents);
  std::optional<Sequences> sources = cache->sources();
  if (sources) sources = sources->select(parents);
  make_room(*cache, cache->slot_size(), places.num_slots());
  cache->set_places(std::move(places), cache->slot_size(), cache->num_slots());
  cache->set_sources(std::move(sources), cache->memory_rows());
}

Sequences kv_cache_sources(const std::shared_ptr<KVCache>& cache, const std::optional<Sequences>& sequences) {
  const KVCache::Use use(*cache);
  if (!cache->sources()) {
    CHECK(sequences.has_value(), "KVCache: the cache must know where the memory lies, got no sequences");
    CHECK(sequences->size() == cache->own().size(), "KVCache: the memory must have ", cache->own().size(),
          " sequences, got ", sequences->size());
    cache->set_sources(*sequences, sequences->capacity());
  }
  return *cache->sources();
}

void kv_cache_join(const std::shared_ptr<KVCache>& cache, const std::shared_ptr<KVCache>& other) {
  CHECK(cache != other, "KVCache: other must be another cache");
  const KVCache::Use use(*cache), use_of_other(*other);
  if (other->own().size() == 0) return;
  if (cache->own().size() == 0) {
    cache->set_places(other->places(), other->slot_size(), other->num_slots());
    cache->set_dtype(other->dtype());
    cache->decoded = other->decoded;
    cache->memory = other->memory;
    cache->set_sources(other->sources(), other->memory_rows());
    clear(*other);
    return;
  }
  check_alike("keys", cache->decoded, other->decoded);
  check_alike("memory", cache->memory, other->memory);
  CHECK(cache->sources().has_value() == other->sources().has_value(),
        "KVCache: both caches must know where the memory lies, or none");
  KVPlaces places = cache->places();
  const std::vector<int64_t> slots = places.join(other->places());
  make_room(*cache, std::max(cache->slot_size(), other->slot_size()), places.num_slots());
  const std::vector<int64_t>& rows = other->places().rows_of_slots();
  const auto count = static_cast<int64_t>(slots.size());
  const Sequences from = slots_at(rows, range(0, count), other->slot_size(), other->num_slots());
  const Sequences to = slots_at(rows, slots, cache->slot_size(), cache->num_slots());
  for (const auto& [attention, buffers] : cache->decoded) {
    copy_sequences(other->decoded.at(attention), from, count_up(count), buffers, to);
  }
  if (cache->sources()) join_memory(*cache, *other);
  cache->set_places(std::move(places), cache->slot_size(), cache->num_slots());
  clear(*other);
}

void kv_cache_compact(const std::shared_ptr<KVCache>& cache) {
  const KVCache::Use use(*cache);
  if (cache->own().size() == 0) return clear(*cache);
  if (!cache->sources()) return;
  const int64_t used = DistinctSources(*cache->sources()).sources.tokens();
  if (2 * used < cache->memory_rows()) gather_memory(*cache, 0);
}

}  // namespace dragoman
