#include "core/storage.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/check.h"

namespace dragoman {

namespace {

constexpr int64_t alignment = 64;
constexpr int64_t huge_page = int64_t{2} << 20;
constexpr int64_t smallest_mapping = int64_t{256} << 10;  // a multiple of any page, and so are larger classes

// Four size classes per power of two: a block is at most a quarter larger than what was asked for.
int64_t rounded_size(int64_t nbytes) {
  if (nbytes <= 4 * alignment) return std::max<int64_t>(1, (nbytes + alignment - 1) / alignment) * alignment;
  const int64_t quarter = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(nbytes - 1))) / 4;
  return (nbytes + quarter - 1) / quarter * quarter;
}

// Large blocks are mappings of their own, which go back to the system whatever lies beside them. From the
// size of a huge page on they ask for such pages, which spares most of the address translation.
void* map(int64_t size) {
  const size_t length = static_cast<size_t>(size), spare = size >= huge_page ? huge_page : 0;
  void* mapping = mmap(nullptr, length + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  if (spare == 0) return mapping;
  char* begin = static_cast<char*>(mapping);
  char* block = begin + (spare - reinterpret_cast<uintptr_t>(begin) % spare) % spare;
  if (block > begin) munmap(begin, static_cast<size_t>(block - begin));
  if (block < begin + spare) munmap(block + length, static_cast<size_t>(begin + spare - block));
  madvise(block, length, MADV_HUGEPAGE);
  return block;
}

void* system_allocate(int64_t size) {
  return size >= smallest_mapping ? map(size) : std::aligned_alloc(alignment, static_cast<size_t>(size));
}

void system_free(void* block, int64_t size) {
  if (size >= smallest_mapping) {
    munmap(block, static_cast<size_t>(size));
  } else {
    std::free(block);
  }
}

}  // namespace

class HostAllocator {
 public:
  HostAllocator() = default;
  HostAllocator(const HostAllocator&) = delete;
  HostAllocator& operator=(const HostAllocator&) = delete;
  ~HostAllocator() { release_cached(); }

  void* allocate(int64_t nbytes) {
    const int64_t size = rounded_size(nbytes);
    const std::lock_guard lock(mutex_);
    void* block = nullptr;
    if (auto cached = free_blocks_.find(size); cached != free_blocks_.end() && !cached->second.empty()) {
      block = cached->second.back();
      cached->second.pop_back();
    } else {
      block = from_system(size);
      stats_.reserved += size;
    }
    stats_.allocated += size;
    stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
    return block;
  }

  void free(void* block, int64_t nbytes) noexcept {
    const int64_t size = rounded_size(nbytes);
    const std::lock_guard lock(mutex_);
    stats_.allocated -= size;
    try {
      free_blocks_[size].push_back(block);
    } catch (const std::bad_alloc&) {
      system_free(block, size);
      stats_.reserved -= size;
    }
  }

  void empty_cache() {
    const std::lock_guard lock(mutex_);
    release_cached();
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  // Around fork(): a child of a fork in the midst of another thread's allocation would wait for ever.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_allocated = stats_.allocated;
  }

 private:
  void* from_system(int64_t size) {
    void* block = system_allocate(size);
    if (block == nullptr) {
      release_cached();
      block = system_allocate(size);
    }
    if (block == nullptr) throw std::bad_alloc();
    return block;
  }

  void release_cached() {
    for (auto& [size, blocks] : free_blocks_) {
      for (void* block : blocks) system_free(block, size);
      stats_.reserved -= size * static_cast<int64_t>(blocks.size());
      blocks.clear();
    }
  }

  std::mutex mutex_;
  std::unordered_map<int64_t, std::vector<void*>> free_blocks_;
  MemoryStats stats_{};
};

namespace {

// Never destroyed: Tensors held by the interpreter may outlive static destructors.
const std::shared_ptr<HostAllocator>& process_allocator() {
  static const auto* allocator = new std::shared_ptr<HostAllocator>(std::make_shared<HostAllocator>());
  return *allocator;
}

thread_local std::shared_ptr<HostAllocator> rehearsal_allocator;

int64_t next_version() {
  static std::atomic<int64_t> last{0};
  return ++last;
}

HostAllocator& host_allocator() {
  return *process_allocator();
}

const std::shared_ptr<HostAllocator>& current_allocator() {
  return rehearsal_allocator != nullptr ? rehearsal_allocator : process_allocator();
}

[[maybe_unused]] const int fork_handler = pthread_atfork(
    [] { host_allocator().lock(); }, [] { host_allocator().unlock(); }, [] { host_allocator().unlock(); });

}  // namespace

MemoryStats memory_stats() {
  return host_allocator().stats();
}
void reset_peak_memory_stats() {
  host_allocator().reset_peak();
}
void empty_cache() {
  current_allocator()->empty_cache();
}

Rehearsal::Rehearsal() : allocator_(std::make_shared<HostAllocator>()) {
  CHECK(!standing(), "rehearsal: this thread has one already");
  rehearsal_allocator = allocator_;
}

bool Rehearsal::standing() {
  return rehearsal_allocator != nullptr;
}

void Rehearsal::stop() {
  if (rehearsal_allocator == allocator_) rehearsal_allocator = nullptr;
}

MemoryStats Rehearsal::stats() const {
  return allocator_->stats();
}

Storage::Storage(int64_t nbytes, Device device)
    : allocator_(current_allocator()),
      data_(allocator_->allocate(nbytes)),
      nbytes_(nbytes),
      device_(device),
      writeable_(true),
      version_(next_version()) {}

Storage::Storage(void* data, int64_t nbytes, bool writeable, void* owner, void (*release)(void*))
    : data_(data),
      nbytes_(nbytes),
      device_(Device::cpu),
      writeable_(writeable),
      owner_(owner),
      release_(release) {}

void Storage::written() {
  int64_t held = version_;
  if (held != 0) version_.compare_exchange_strong(held, next_version());
}

Storage::~Storage() {
  if (release_ != nullptr) {
    release_(owner_);
  } else {
    allocator_->free(data_, nbytes_);
  }
}

Scratch::Scratch(int64_t nbytes) : data(current_allocator()->allocate(nbytes)), nbytes_(nbytes) {}
Scratch::~Scratch() {
  current_allocator()->free(data, nbytes_);
}

}  // namespace dragoman
