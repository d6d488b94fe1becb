#include "emulator.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace emulator {

namespace {

// Saves the registers that a call keeps, and goes on where `to` stopped: for x86-64.
extern "C" void dragoman_emulator_switch(void** from, void* to);
asm(R"(
.text
.hidden dragoman_emulator_switch
.globl dragoman_emulator_switch
dragoman_emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi); movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

constexpr size_t stack_size = size_t{128} << 10, guard_size = size_t{4} << 10;
constexpr int most_threads = 1024;

void* scheduler = nullptr;  // its context while a thread runs
const std::function<void()>* body = nullptr;
std::string failure;  // of the kernel that runs

char* stack_of(int index) {
  static char* stacks = [] {
    const size_t length = stack_size * most_threads;
    void* mapping =
        mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::runtime_error("emulator: no memory for stacks");
    for (size_t at = 0; at < length; at += stack_size) {
      mprotect(static_cast<char*>(mapping) + at, guard_size, PROT_NONE);
    }
    return static_cast<char*>(mapping);
  }();
  return stacks + static_cast<size_t>(index) * stack_size;
}

void to_scheduler() { dragoman_emulator_switch(&thread->stack_pointer, scheduler); }

void thread_entry() {
  (*body)();
  if (!thread->open_copies.empty() || !thread->copy_groups.empty()) fail("a thread ends before its copies");
  thread->ended = true;
  to_scheduler();
}

// The stack pointer of a thread that is to begin, as a call leaves it: 8 bytes off a multiple of 16.
void* new_stack(int index) {
  void** top = reinterpret_cast<void**>(stack_of(index) + stack_size) - 3;
  *--top = reinterpret_cast<void*>(thread_entry);
  return std::fill_n(top - 6, 6, nullptr) - 6;
}

// Variables marked __shared__ are the library's thread-local ones: their bytes on this host thread.
struct StaticShared {
  char* data = nullptr;
  size_t size = 0;
};

thread_local volatile char one_of_them;

StaticShared static_shared() {
  one_of_them = 0;  // now they exist on this thread
  StaticShared found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        bool ours = false;
        size_t size = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr) & header = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr, here = reinterpret_cast<uintptr_t>(&body);
          ours = ours || (header.p_type == PT_LOAD && here >= begin && here < begin + header.p_memsz);
          if (header.p_type == PT_TLS) size = header.p_memsz;
        }
        if (ours) *static_cast<StaticShared*>(result) = {static_cast<char*>(info->dlpi_tls_data), size};
        return ours ? 1 : 0;
      },
      &found);
  return found;
}

unsigned next_random() {
  static unsigned state =
      std::getenv("DRAGOMAN_EMULATOR_SEED") ? std::atoi(std::getenv("DRAGOMAN_EMULATOR_SEED")) : 1;
  state = state * 1664525u + 1013904223u;
  return state >> 16;
}

bool can_run(const Thread& t) {
  return !t.ended && (t.waits_for == nullptr || t.waits_for->generation != t.waits_since);
}

// Runs the threads [begin, end) until all wait or have ended. Returns whether any ran.
bool run_warp(Thread* begin, Thread* end) {
  bool any = false;
  for (bool ran = true; ran;) {
    ran = false;
    for (thread = begin; thread < end; ++thread) {
      if (!can_run(*thread)) continue;
      Thread* running = thread;
      running->waits_for = nullptr;
      threadIdx = running->index;
      dragoman_emulator_switch(&scheduler, running->stack_pointer);
      if (!failure.empty()) throw std::runtime_error("emulator: " + failure);
      ran = any = true;
    }
  }
  return any;
}

void run_block(std::vector<Thread>& threads, std::vector<Warp>& warps) {
  const int num_warps = static_cast<int>(warps.size());
  block->barrier = {};
  for (Warp& warp : warps) warp.barrier = {};
  for (int i = 0; i < block->num_threads; ++i) {
    const unsigned x = blockDim.x, y = blockDim.y, at = static_cast<unsigned>(i);
    Thread& t = threads[i];
    t.index = {at % x, at / x % y, at / (x * y)};
    t.lane = i % warp_size;
    t.warp = &warps[i / warp_size];
    t.stack_pointer = new_stack(i);
    t.ended = false;
    t.waits_for = nullptr;
    t.exchanges = 0;
    t.open_copies.clear();
    t.copy_groups.clear();
  }
  for (bool any = true; any;) {
    any = false;
    const int first = static_cast<int>(next_random() % static_cast<unsigned>(num_warps));
    for (int i = 0; i < num_warps; ++i) {
      Thread* begin = threads.data() + (first + i) % num_warps * warp_size;
      Thread* end = std::min(begin + warp_size, threads.data() + block->num_threads);
      any = run_warp(begin, end) || any;
    }
  }
  for (int i = 0; i < block->num_threads; ++i) {
    if (!threads[i].ended) {
      throw std::runtime_error("emulator: in block (" + std::to_string(blockIdx.x) + ", " +
                               std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ") thread " +
                               std::to_string(i) + " waits at a barrier that not all threads reach");
    }
  }
}

}  // namespace

void arrive(Barrier& barrier, int count) {
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    ++barrier.generation;
    return;
  }
  thread->waits_for = &barrier;
  thread->waits_since = barrier.generation;
  to_scheduler();
}

void fail(const std::string& text) {
  failure = text;
  for (;;) to_scheduler();
}

bool eager_copies() {
  static const bool eager = std::getenv("DRAGOMAN_EMULATOR_EAGER") != nullptr;
  return eager;
}

void run(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& kernel) {
  const int num_threads = static_cast<int>(size.x * size.y * size.z);
  std::vector<Thread> threads(num_threads);
  std::vector<Warp> warps((num_threads + warp_size - 1) / warp_size);
  const std::unique_ptr<char, decltype(&std::free)> shared(
      static_cast<char*>(std::aligned_alloc(1024, (shared_bytes + 1023) / 1024 * 1024)), &std::free);
  const StaticShared fixed = static_shared();
  Block running{{}, num_threads, shared.get()};
  block = &running;
  gridDim = grid;
  blockDim = size;
  body = &kernel;
  failure.clear();
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        if (shared_bytes > 0) std::memset(shared.get(), 0xFF, shared_bytes);
        std::memset(fixed.data, 0xFF, fixed.size);
        run_block(threads, warps);
      }
    }
  }
  block = nullptr;
}

}  // namespace emulator
