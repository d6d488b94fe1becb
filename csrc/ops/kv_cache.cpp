#include "ops/kv_cache.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

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

// Every buffer of the cache in a new order, and in slots of another size.
void reorder(KVCache& cache, const Tensor& indices, std::vector<int64_t> lengths, int64_t slot) {
  const Sequences out_sequences = Sequences::slotted(std::move(lengths), slot);
  std::map<int64_t, KeysValues> decoded;
  for (const auto& [attention, rows] : cache.decoded) {
    const KeysValues out = empty_rows(rows, out_sequences.capacity());
    copy_sequences(rows, cache.sequences(), indices, out, out_sequences);
    decoded.emplace(attention, out);
  }
  cache.decoded = std::move(decoded);
  cache.set_sequences(out_sequences, slot);
}

// The same sequences in larger slots.
void grow(KVCache& cache, int64_t slot) {
  reorder(cache, count_up(cache.sequences().size()), cache.sequences().lengths(), slot);
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

// The two, one after the other.
template <class T>
std::vector<T> joined(std::vector<T> first, const std::vector<T>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> values(static_cast<size_t>(end - begin));
  std::iota(values.begin(), values.end(), begin);
  return values;
}

// The memory that sequences of `cache`, and of `other` if there is one, read, each source once, in new
// buffers of `cache`.
void gather_memory(KVCache& cache, const KVCache* other) {
  const DistinctSources own(*cache.sources());
  const DistinctSources added(other == nullptr ? Sequences(std::vector<int64_t>{}) : *other->sources());
  const int64_t count = own.sources.size(), total = count + added.sources.size();
  const Sequences all(joined(own.sources.lengths(), added.sources.lengths()));
  std::map<int64_t, KeysValues> memory;
  for (const auto& [attention, rows] : cache.memory) {
    const KeysValues out = empty_rows(rows, all.capacity());
    copy_sequences(rows, own.sources, count_up(count), out, all.select(range(0, count)));
    if (other != nullptr) {
      copy_sequences(other->memory.at(attention), added.sources, count_up(total - count), out,
                     all.select(range(count, total)));
    }
    memory.emplace(attention, out);
  }
  std::vector<int64_t> of_sequence = own.of_sequence;
  for (const int64_t source : added.of_sequence) of_sequence.push_back(count + source);
  cache.memory = std::move(memory);
  cache.set_sources(all.select(of_sequence));
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
  const std::optional<Sequences>& sources = cache->sources();
  const std::vector<int64_t> chosen(checked.data<int32_t>(), checked.data<int32_t>() + count);
  reorder(*cache, checked, std::move(lengths), cache->slot());
  if (sources) cache->set_sources(sources->select(chosen));
}

Sequences kv_cache_sources(const std::shared_ptr<KVCache>& cache, const std::optional<Sequences>& sequences) {
  const KVCache::Use use(*cache);
  if (!cache->sources()) {
    CHECK(sequences.has_value(), "KVCache: the cache must know where the memory lies, got no sequences");
    CHECK(sequences->size() == cache->sequences().size(), "KVCache: the memory must have ",
          cache->sequences().size(), " sequences, got ", sequences->size());
    cache->set_sources(*sequences);
  }
  return *cache->sources();
}

void kv_cache_join(const std::shared_ptr<KVCache>& cache, const std::shared_ptr<KVCache>& other) {
  CHECK(cache != other, "KVCache: other must be another cache");
  const KVCache::Use use(*cache), use_of_other(*other);
  const Sequences own = cache->sequences(), added = other->sequences();
  if (own.size() > 0 && added.size() > 0) {
    check_alike("keys", cache->decoded, other->decoded);
    check_alike("memory", cache->memory, other->memory);
    CHECK(cache->sources().has_value() == other->sources().has_value(),
          "KVCache: both caches must know where the memory lies, or none");
    const int64_t slot = std::max(cache->slot(), other->slot());
    const int64_t count = own.size(), total = count + added.size();
    const Sequences all = Sequences::slotted(joined(own.lengths(), added.lengths()), slot);
    std::map<int64_t, KeysValues> decoded;
    for (const auto& [attention, rows] : cache->decoded) {
      const KeysValues out = empty_rows(rows, all.capacity());
      copy_sequences(rows, own, count_up(count), out, all.select(range(0, count)));
      copy_sequences(other->decoded.at(attention), added, count_up(total - count), out,
                     all.select(range(count, total)));
      decoded.emplace(attention, out);
    }
    if (cache->sources()) gather_memory(*cache, other.get());
    cache->decoded = std::move(decoded);
    cache->set_sequences(all, slot);
  } else if (added.size() > 0) {
    cache->decoded = other->decoded;
    cache->memory = other->memory;
    cache->set_sources(other->sources());
    cache->set_sequences(added, other->slot());
  }
  other->decoded.clear();
  other->memory.clear();
  other->set_sources(std::nullopt);
  other->set_sequences(Sequences::slotted({}, other->slot()), other->slot());
}

void kv_cache_compact(const std::shared_ptr<KVCache>& cache) {
  const KVCache::Use use(*cache);
  if (!cache->sources()) return;
  const DistinctSources used(*cache->sources());
  if (2 * used.sources.tokens() < used.sources.capacity()) gather_memory(*cache, nullptr);
}

}  // namespace dragoman
