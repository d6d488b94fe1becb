#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "core/check.h"
#include "core/cpu_count.h"
#include "core/startable.h"

namespace dragoman {

namespace {

// OpenMP's limit at the start: OMP_NUM_THREADS, or one thread for each CPU in the affinity mask.
const int initial_limit = std::clamp(omp_get_max_threads(), 1, most_threads);

std::atomic<int>& thread_count() {
  static std::atomic<int> count{
      std::getenv("OMP_NUM_THREADS") != nullptr ? initial_limit : std::min(initial_limit, cpu_count())};
  return count;
}

thread_local int fixed_count = 0;  // of the op that this thread runs; 0 outside of ops

thread_local int pool_size = 1;  // threads of the calling thread's pool, itself among them

// A child of fork() has none of its parent's threads, and libgomp would wait for them forever. So the pool
// ends before the fork. Parent and child each start a new one when they next need it.
void end_pool() {
  omp_pause_resource_all(omp_pause_hard);
  pool_size = 1;
}

[[maybe_unused]] const int fork_handler = pthread_atfork(end_pool, nullptr, nullptr);

// The number of threads of the next parallel region: all of the pool, even for less work. For libgomp ends
// the threads that a smaller region leaves out, and starts them again for the next one. What cannot be
// started, which would end the process, is left out.
int team_size() noexcept {
  const int wanted = num_threads();
  pool_size = wanted > pool_size ? pool_size + startable(wanted - pool_size) : wanted;
  return pool_size;
}

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
  CHECK(threads >= 1 && threads <= most_threads, "set_num_threads: n must lie in [1, ", most_threads,
        "], got ", threads);
  thread_count() = threads;
#pragma omp parallel num_threads(team_size())
  {
    asm volatile("");  // not empty, or the compiler leaves the region out
  }  // starts the pool now, before memory is taken for other things
}

void parallel_for_ranges(int64_t size, int64_t grain, RangeFunction function, void* context) noexcept {
  const int64_t ranges = (size + grain - 1) / grain;
  const int threads = ranges <= 1 || omp_in_parallel() ? 1 : team_size();
  if (threads <= 1) {
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
