#include "core/kv_cache.h"

namespace dragoman {

namespace {

constexpr int64_t first_slot = 32;

std::vector<int64_t> no_rows(int64_t num_sequences) {
  CHECK(num_sequences >= 0, "KVCache: num_sequences must be at least 0, got ", num_sequences);
  return std::vector<int64_t>(static_cast<size_t>(num_sequences), 0);
}

}  // namespace

KVCache::KVCache(int64_t num_sequences)
    : slot_(first_slot), sequences_(Sequences::slotted(no_rows(num_sequences), first_slot)) {}

KVCache::Use::Use(const KVCache& cache) : cache_(cache) {
  CHECK(!cache.used_.test_and_set(), "KVCache: the cache must be used by one thread at a time");
}

void KVCache::set_sequences(const Sequences& sequences, int64_t slot) noexcept {
  sequences_ = sequences;
  slot_ = slot;
}

int64_t KVCache::slot_for(int64_t length) const {
  int64_t slot = slot_;
  while (slot < length) slot *= 2;
  return slot;
}

}  // namespace dragoman
