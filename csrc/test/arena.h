// The memory of the device `test`: one range of addresses, open only while an Access stands.
#pragma once

#include <cstdint>
#include <mutex>

namespace dragoman::test {

void* arena_allocate(int64_t size);  // null when the arena is full
void arena_free(void* block, int64_t size);

bool in_arena(const void* address);

// Opens the arena's memory to the process; one at a time.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  const std::lock_guard<std::mutex> lock_;
};

}  // namespace dragoman::test
