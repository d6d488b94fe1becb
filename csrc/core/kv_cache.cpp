#include "core/kv_cache.h"

namespace dragoman {

namespace {

constexpr int64_t first_slot_size = 32;

}  // namespace

KVCache::KVCache(int64_t num_sequences, DType dtype)
    : dtype_(dtype),
      places_(num_sequences),
      slot_size_(first_slot_size),
      num_slots_(num_sequences),
      own_(places_.own(slot_size_, num_slots_)),
      read_(own_) {}

KVCache::Use::Use(const KVCache& cache) : cache_(cache) {
  CHECK(!cache.used_.test_and_set(), "KVCache: the cache must be used by one thread at a time");
}

void KVCache::set_places(KVPlaces places, int64_t slot_size, int64_t num_slots) {
  Sequences own = places.own(slot_size, num_slots), read = places.read(slot_size, num_slots);
  places_ = std::move(places);
  slot_size_ = slot_size;
  num_slots_ = num_slots;
  own_ = std::move(own);
  read_ = std::move(read);
}

void KVCache::extend(const std::vector<int64_t>& new_rows) {
  places_.extend(new_rows);
  own_ = places_.own(slot_size_, num_slots_);
  read_ = places_.read(slot_size_, num_slots_);
}

int64_t KVCache::slot_size_for(int64_t length) const {
  int64_t size = slot_size_;
  while (size < length) size *= 2;
  return size;
}

void KVCache::set_sources(std::optional<Sequences> sources, int64_t memory_rows) noexcept {
  sources_ = std::move(sources);
  memory_rows_ = memory_rows;
}

}  // namespace dragoman
