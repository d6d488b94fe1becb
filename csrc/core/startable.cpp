#include "core/startable.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <new>

namespace dragoman {

namespace {

struct Trial {
  std::unique_ptr<char[]> spare{new (std::nothrow) char[size_t{256} << 10]};
  std::atomic<bool> over = false;
};

void* wait_until_over(void* trial) {
  static_cast<Trial*>(trial)->over.wait(false);
  return nullptr;
}

}  // namespace

int startable(int wanted) noexcept {
  Trial trial;
  if (trial.spare == nullptr) return 0;
  std::array<pthread_t, most_threads> threads;
  const int most = std::min(wanted, most_threads);
  int started = 0;
  while (started < most && pthread_create(&threads[started], nullptr, wait_until_over, &trial) == 0) {
    ++started;
  }
  trial.over = true;
  trial.over.notify_all();
  for (int i = 0; i < started; ++i) pthread_join(threads[i], nullptr);
  return started;
}

}  // namespace dragoman
