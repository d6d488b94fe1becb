// Memory: its statistics, Storage (shared, owned or foreign) and Scratch (a CPU kernel's scratch memory).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/device.h"

namespace dragoman {

struct MemoryStats {
  int64_t allocated;       // bytes in use now
  int64_t reserved;        // bytes taken from the system: in use plus cached
  int64_t peak_allocated;  // largest `allocated` since the last reset
};

MemoryStats memory_stats(Device device);
void reset_peak_memory_stats(Device device);
void empty_cache(Device device);  // returns cached blocks to the system

class BlockAllocator;

// A trial run of the calling thread, to find out how much memory a training step takes. While a Rehearsal
// lives, memory on any device is counted apart, and kernels and copies do nothing. The blocks are really
// reserved, but a page that nobody writes takes no memory.
class Rehearsal {
 public:
  Rehearsal();  // ValueError when this thread has one already
  ~Rehearsal() { stop(); }
  Rehearsal(const Rehearsal&) = delete;
  Rehearsal& operator=(const Rehearsal&) = delete;

  static bool standing();  // on the calling thread
  void stop();
  MemoryStats stats() const;

 private:
  std::shared_ptr<BlockAllocator> allocator_;
};

// One block of memory. Tensors share it; the end of the last one frees it.
class Storage {
 public:
  Storage(int64_t nbytes, Device device);  // owned, 64-byte aligned; OutOfMemory when memory runs out
  // Foreign memory: `release(owner)` is called once, from any thread, at the end of the last Tensor.
  Storage(void* data, int64_t nbytes, Device device, bool writeable, void* owner, void (*release)(void*));
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  int64_t nbytes() const { return nbytes_; }
  Device device() const { return device_; }
  bool writeable() const { return writeable_; }

  // A number that changes with the contents, so that a copy of them knows whether it is still right. copy_,
  // zero_ and an optimizer's step set a number that no other write in the process has. It is 0 where other
  // libraries may write.
  int64_t version() const { return version_; }
  void written();
  void lend() { version_ = 0; }

 private:
  std::shared_ptr<BlockAllocator> allocator_;  // of owned memory
  void* data_;
  int64_t nbytes_;
  Device device_;
  bool writeable_;
  std::atomic<int64_t> version_ = 0;
  void* owner_ = nullptr;
  void (*release_)(void*) = nullptr;
};

// A CPU kernel's scratch memory, taken from the cache before its parallel region and returned at the end of
// the scope. Nothing is inline: files that are compiled for one instruction set use it, and they must not
// define weak symbols.
class Scratch {
 public:
  explicit Scratch(int64_t nbytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* const data;  // 64-byte aligned

 private:
  int64_t nbytes_;
};

}  // namespace dragoman
