// parallel_for: all parallel code on the CPU goes through it. Inside a parallel region, nothing here
// allocates or throws.
//
// Results never depend on the number of threads. A body writes only to its own range. A reduction runs over
// chunks of a fixed size, which are added in order afterwards.
#pragma once

#include <cstdint>

namespace dragoman {

int num_threads();                  // upper bound for a parallel_for of the calling thread
void set_num_threads(int threads);  // for the whole process; ValueError below 1
int max_threads();                  // upper bound of thread_index() + 1; sizes per-thread scratch
int thread_index();                 // of the calling thread inside parallel_for, 0 outside

// During its lifetime the calling thread keeps the number of threads that it found. So an op's scratch stays
// large enough when another thread calls set_num_threads.
class FixedThreads {
 public:
  FixedThreads();
  ~FixedThreads();
  FixedThreads(const FixedThreads&) = delete;
  FixedThreads& operator=(const FixedThreads&) = delete;

 private:
  const int outer_;
};

using RangeFunction = void (*)(void* context, int64_t begin, int64_t end);
void parallel_for_ranges(int64_t size, int64_t grain, RangeFunction function, void* context) noexcept;

// Calls body(begin, end) on ranges that cover [0, size), each at most `grain` long, on the pool's threads.
// A call from inside a body runs on the calling thread. It is static because files that are compiled for one
// instruction set must not define weak symbols: the linker could choose them for all.
template <class Body>
static inline void parallel_for(int64_t size, int64_t grain, const Body& body) {
  parallel_for_ranges(
      size, grain,
      [](void* context, int64_t begin, int64_t end) { (*static_cast<const Body*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace dragoman
