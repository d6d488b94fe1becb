#include "core/allocator.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <new>

#include "core/check.h"
#include "core/cuda_library.h"

namespace dragoman {

namespace {

constexpr int64_t alignment = 64;

// Four size classes per power of two: a block is at most a quarter larger than the request.
int64_t rounded_size(int64_t nbytes) {
  if (nbytes <= 4 * alignment) return std::max<int64_t>(1, (nbytes + alignment - 1) / alignment) * alignment;
  const int64_t quarter = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(nbytes - 1))) / 4;
  return (nbytes + quarter - 1) / quarter * quarter;
}

}  // namespace

BlockAllocator::BlockAllocator(Device device, const Memory& memory)
    : device_(device),
      memory_(memory),
      cached_(memory.cached && std::getenv("DRAGOMAN_NO_CACHE") == nullptr) {}

// A device's blocks that nobody uses again have the size that was asked for, so that no overrun stays inside.
int64_t BlockAllocator::block_size(int64_t nbytes) const {
  const bool exact = !cached_ && device_.kind == Device::Kind::cuda;
  return exact ? std::max<int64_t>(1, nbytes) : rounded_size(nbytes);
}

void* BlockAllocator::allocate(int64_t nbytes) {
  const int64_t size = block_size(nbytes);
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

void BlockAllocator::free(void* block, int64_t nbytes) noexcept {
  const int64_t size = block_size(nbytes);
  const std::lock_guard lock(mutex_);
  stats_.allocated -= size;
  if (cached_) {
    try {
      free_blocks_[size].push_back(block);
      return;
    } catch (const std::bad_alloc&) {
    }
  }
  memory_.free(block, size);
  stats_.reserved -= size;
}

void BlockAllocator::empty_cache() {
  const std::lock_guard lock(mutex_);
  release_cached();
}

MemoryStats BlockAllocator::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void BlockAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
}

void* BlockAllocator::from_system(int64_t size) {
  void* block = memory_.allocate(size);
  if (block == nullptr && release_cached() > 0) block = memory_.allocate(size);
  if (block == nullptr) throw OutOfMemory(name(device_), size, stats_.allocated);
  return block;
}

int64_t BlockAllocator::release_cached() {
  int64_t released = 0;
  for (auto& [size, blocks] : free_blocks_) {
    for (void* block : blocks) memory_.free(block, size);
    released += size * static_cast<int64_t>(blocks.size());
    blocks.clear();
  }
  stats_.reserved -= released;
  return released;
}

namespace {

using Allocators = std::array<std::shared_ptr<BlockAllocator>, 3>;  // by Device::Kind

// Never destroyed: the interpreter may hold Tensors longer than static objects live.
const Allocators& process_allocators() {
  static const auto* allocators = new Allocators([] {
    Allocators made;
    const auto make = [&](Device device, const Memory& memory) {
      made[static_cast<size_t>(device.kind)] = std::make_shared<BlockAllocator>(device, memory);
    };
    make(cpu_device, memory(cpu_device));
    make(Device{Device::Kind::cuda}, cuda_memory);  // opened when it is first used
    make(test_device, memory(test_device));
    return made;
  }());
  return *allocators;
}

const std::shared_ptr<BlockAllocator>& process_allocator(Device device) {
  if (device.kind == Device::Kind::cuda) check_cuda(device);
  return process_allocators()[static_cast<size_t>(device.kind)];
}

// Of the Rehearsal that stands on this thread, or null. A plain pointer: to register a destructor may fail,
// which ends the process.
thread_local const std::shared_ptr<BlockAllocator>* rehearsal_allocator = nullptr;

void lock_all() {
  for (const auto& allocator : process_allocators()) allocator->lock();
}

void unlock_all() {
  for (const auto& allocator : process_allocators()) allocator->unlock();
}

[[maybe_unused]] const int fork_handler = pthread_atfork(lock_all, unlock_all, unlock_all);

}  // namespace

const std::shared_ptr<BlockAllocator>& current_allocator(Device device) {
  return rehearsal_allocator != nullptr ? *rehearsal_allocator : process_allocator(device);
}

MemoryStats memory_stats(Device device) {
  return process_allocator(device)->stats();
}
void reset_peak_memory_stats(Device device) {
  process_allocator(device)->reset_peak();
}
void empty_cache(Device device) {
  current_allocator(device)->empty_cache();
}

// A rehearsal takes memory of every device as pages of the host, which nobody touches.
Rehearsal::Rehearsal() : allocator_(std::make_shared<BlockAllocator>(cpu_device, memory(cpu_device))) {
  CHECK(!standing(), "rehearsal: this thread has one already");
  rehearsal_allocator = &allocator_;
}

bool Rehearsal::standing() {
  return rehearsal_allocator != nullptr;
}

void Rehearsal::stop() {
  if (rehearsal_allocator == &allocator_) rehearsal_allocator = nullptr;
}

MemoryStats Rehearsal::stats() const {
  return allocator_->stats();
}

}  // namespace dragoman
