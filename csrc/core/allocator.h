// A caching allocator over the memory functions of one device.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/backend.h"
#include "core/device.h"
#include "core/storage.h"

namespace dragoman {

// Keeps freed blocks by size for the next request of that size. On a device with one stream a
// freed block may go to the next op at once, because kernels run in the order in which they were started.
// With DRAGOMAN_NO_CACHE in the environment nothing is kept, for tools that watch each block of memory.
class BlockAllocator {
 public:
  explicit BlockAllocator(Device device, const Memory& memory);
  BlockAllocator(const BlockAllocator&) = delete;
  BlockAllocator& operator=(const BlockAllocator&) = delete;
  ~BlockAllocator() { release_cached(); }

  void* allocate(int64_t nbytes);  // OutOfMemory when the device has no more
  void free(void* block, int64_t nbytes) noexcept;
  void empty_cache();
  MemoryStats stats();
  void reset_peak();

  // Around fork(): if another thread were allocating, the child would wait forever.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  int64_t block_size(int64_t nbytes) const;
  void* from_system(int64_t size);
  int64_t release_cached();  // returns the bytes

  const Device device_;
  const Memory& memory_;
  const bool cached_;
  std::mutex mutex_;
  std::unordered_map<int64_t, std::vector<void*>> free_blocks_;
  MemoryStats stats_{};
};

// The process's allocator of this device, or the one of the calling thread's Rehearsal.
const std::shared_ptr<BlockAllocator>& current_allocator(Device device);

}  // namespace dragoman
