#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "core/check.h"
#include "core/cpu_count.h"

namespace dragoman {

namespace {

// OpenMP's limit at the start: OMP_NUM_THREADS, or one thread for each CPU in the affinity mask.
const int initial_limit = std::max(1, omp_get_max_threads());

std::atomic<int>& thread_count() {
  static std::atomic<int> count{
      std::getenv("OMP_NUM_THREADS") != nullptr ? initial_limit : std::min(initial_limit, cpu_count())};
  return count;
}

thread_local int fixed_count = 0;  // of the op that this thread runs; 0 outside of ops

// A child of fork() has none of its parent's threads, and libgomp would wait for them forever. So the pool
// ends before the fork. Parent and child each start a new one when they next need it.
[[maybe_unused]] const int fork_handler =
    pthread_atfork([] { omp_pause_resource_all(omp_pause_hard); }, nullptr, nullptr);

}  // namespace

// OpenMP keeps a limit for each thread. A limit below the initial one was set on purpose (threadpoolctl
// does), and holds for the ops of this thread. Any other limit means nothing: a new thread has the initial
// one.
int num_threads() {
  const int limit = omp_get_max_threads();
  return limit < initial_limit ? std::min(limit, max_threads()) : max_threads();
}

int max_threads() {
  return fixed_count > 0 ? fixed_count : thread_count().load();
}

FixedThreads::FixedThreads() : outer_(fixed_count) {
  fixed_count = max_threads();
}

FixedThreads::~FixedThreads() {
  fixed_count = outer_;
}

int thread_index() {
  return omp_get_thread_num();
}

void set_num_threads(int threads) {
  CHECK(threads >= 1 && threads <= 1024, "set_num_threads: n must lie in [1, 1024], got ", threads);
  thread_count() = threads;
#pragma omp parallel num_threads(threads)
  {
  }  // starts the pool now: later, a thread that cannot be created would end the process
}

void parallel_for_ranges(int64_t size, int64_t grain, RangeFunction function, void* context) noexcept {
  const int64_t ranges = (size + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), ranges));
  if (threads <= 1 || omp_in_parallel()) {
    for (int64_t begin = 0; begin < size; begin += grain)
      function(context, begin, std::min(size, begin + grain));
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t range = 0; range < ranges; ++range) {
    function(context, range * grain, std::min(size, (range + 1) * grain));
  }
}

}  // namespace dragoman
