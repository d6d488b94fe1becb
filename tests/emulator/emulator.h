// Runs the threads of a CUDA block as fibers of one host thread. One kernel runs at a time, block after
// block.
//
// Each warp runs until all its threads wait, so that warps are as far apart as barriers allow: a missing
// barrier shows. Shared memory starts as NaN. Warps start in a random order (DRAGOMAN_EMULATOR_SEED), and
// asynchronous copies take place when they are waited for, or at once with DRAGOMAN_EMULATOR_EAGER=1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the thread that runs.
inline uint3 threadIdx;
inline dim3 blockIdx, blockDim, gridDim;

namespace emulator {

constexpr int warp_size = 32, slot_size = 64;

struct Barrier {
  int arrived = 0, generation = 0;
};

struct Copy {
  void* to;
  const void* from;  // null: zeros
};

struct Thread {
  uint3 index;
  int lane;
  struct Warp* warp;
  void* stack_pointer;
  bool ended;
  const Barrier* waits_for;  // or null
  int waits_since;           // its generation when the wait began
  unsigned exchanges;        // so far
  std::vector<Copy> open_copies;
  std::vector<std::vector<Copy>> copy_groups;
};

struct Warp {
  Barrier barrier;
  alignas(16) unsigned char slots[2][warp_size][slot_size];  // used in turn, so that one barrier is enough
};

struct Block {
  Barrier barrier;
  int num_threads;
  char* dynamic_shared;
};

inline Block* block = nullptr;    // the block that runs
inline Thread* thread = nullptr;  // the thread that runs

// Returns when `count` threads have come.
void arrive(Barrier& barrier, int count);
// Ends the kernel with an error: for what the hardware leaves undefined.
[[noreturn]] void fail(const std::string& text);
bool eager_copies();

// Runs a whole grid; std::runtime_error when threads wait for ever.
void run(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& kernel);

inline void sync_warp(unsigned mask) {
  if (mask != ~0u) fail("a warp function's mask must name all lanes");
  arrive(thread->warp->barrier, warp_size);
}

// Every lane gives a value; read(lane) is then the value of that lane.
template <class T, class Read>
auto exchange(unsigned mask, const T& value, const Read& read) {
  static_assert(sizeof(T) <= slot_size && std::is_trivially_copyable_v<T>);
  auto& slots = thread->warp->slots[thread->exchanges++ % 2];
  std::memcpy(slots[thread->lane], &value, sizeof(T));
  sync_warp(mask);
  return read([&slots](int lane) {
    T other;
    std::memcpy(&other, slots[lane], sizeof(T));
    return other;
  });
}

}  // namespace emulator
