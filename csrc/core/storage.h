// Memory: its statistics, Storage (shared, owned or foreign) and Scratch (a CPU kernel's working memory).
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
void empty_cache(Device device);  // gives the cached blocks back to the system

class BlockAllocator;

// While one stands, the memory its thread asks for, on any device, is counted apart from the process's, and
// kernels and copies do nothing: a training step can be run for its peak of memory alone. Pages that nobody
// writes cost nothing.
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

// One block of memory. Tensors share it; the last one to go gives it back.
class Storage {
 public:
  Storage(int64_t nbytes, Device device);  // owned, 64-byte aligned; OutOfMemory when memory runs out
  // Foreign memory: `release(owner)` is called once, from any thread, when the last Tensor goes.
  Storage(void* data, int64_t nbytes, Device device, bool writeable, void* owner, void (*release)(void*));
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  int64_t nbytes() const { return nbytes_; }
  Device device() const { return device_; }
  bool writeable() const { return writeable_; }

  // Tells whether a copy kept of the contents is still true: no two writes in the process share a number. It
  // changes with copy_, zero_ and an optimizer's step, and is 0 where others may write.
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

// A CPU kernel's working memory, taken from the cache before its parallel region and given back at the end of
// the scope. Out of line throughout: instruction-set objects use it and may hold no weak symbols.
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
