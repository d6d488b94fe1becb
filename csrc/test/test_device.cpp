#include "test/test_device.h"

#include <cstring>
#include <exception>

#include <sys/mman.h>

#include "core/backend_api.h"
#include "ops/ops.h"
#include "test/arena.h"

namespace dragoman::test {

namespace {

std::mutex state_mutex;
Counts counted{};
int64_t allocations_to_failure = 0;
std::string failing_kernel;

thread_local std::string message;

// As a library behind a C boundary must: no exception leaves, its text is kept for last_message.
template <class Body>
Status guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc& error) {
    message = error.what();
    return Status::out_of_memory;
  } catch (const std::exception& error) {
    message = error.what();
    return Status::failed;
  }
}

Status allocate(void** block, int64_t size) {
  return guarded([&] {
    {
      const std::lock_guard lock(state_mutex);
      ++counted.allocations;
      if (allocations_to_failure > 0 && --allocations_to_failure == 0) return Status::out_of_memory;
    }
    *block = arena_allocate(size);
    if (*block == nullptr) return Status::out_of_memory;
    const Access access;
    std::memset(*block, 0xFF, static_cast<size_t>(size));  // NaN in float32 and bfloat16, -1 in integers
    return Status::done;
  });
}

Status free(void* block, int64_t size) {
  return guarded([&] {
    arena_free(block, size);
    return Status::done;
  });
}

Status copy(void* to, const void* from, int64_t nbytes, CopyKind kind) {
  return guarded([&] {
    {
      const std::lock_guard lock(state_mutex);
      counted.uploads += kind == CopyKind::to_device;
      counted.downloads += kind == CopyKind::to_host;
    }
    const Access access;
    std::memcpy(to, from, static_cast<size_t>(nbytes));
    return Status::done;
  });
}

Status zero(void* data, int64_t nbytes) {
  return guarded([&] {
    const Access access;
    std::memset(data, 0, static_cast<size_t>(nbytes));
    return Status::done;
  });
}

bool is_host_memory(uintptr_t word) {
  constexpr uintptr_t page = 4096, smallest = uintptr_t{1} << 45;  // smaller numbers are sizes
  if (word < smallest || in_arena(reinterpret_cast<const void*>(word))) return false;
  unsigned char resident;
  return mincore(reinterpret_cast<void*>(word / page * page), 1, &resident) == 0;
}

// A kernel of a device cannot follow a pointer to the host's memory: no word of its parameters may be one.
template <class Params>
void check_pointers(const Params& params) {
  Params copy = params;
  __builtin_clear_padding(&copy);  // what is left there may look like a pointer
  uintptr_t words[sizeof(Params) / sizeof(uintptr_t)];
  std::memcpy(words, &copy, sizeof(words));
  for (size_t i = 0; i < std::size(words); ++i) {
    if (is_host_memory(words[i])) {
      throw std::runtime_error(
          concat("byte ", i * sizeof(uintptr_t), " of its parameters points to host memory"));
    }
  }
}

template <class Params>
Status run(const char* name, void (*kernel)(const Params&), const Params& params) {
  return guarded([&] {
    {
      const std::lock_guard lock(state_mutex);
      ++counted.kernels;
      if (failing_kernel == name) {
        failing_kernel.clear();
        message = "a test asked for this failure";
        return Status::failed;
      }
    }
    check_pointers(params);
    const Access access;
    kernel(params);
    return Status::done;
  });
}

const Kernels& cpu() {
  return dragoman::kernels(cpu_device);
}

constinit const BackendApi api = {.last_message = [] { return message.c_str(); },
                                  .allocate = allocate,
                                  .free = free,
                                  .copy = copy,
                                  .zero = zero,
                                  .synchronize = [] { return Status::done; },
                                  .stream =
                                      [](uintptr_t* stream) {
                                        *stream = 0;
                                        return Status::done;
                                      },
                                  .let_wait = [](uintptr_t) { return Status::done; },
                                  .exchange_version = nullptr,  // of cuda alone
                                  .exchange_id = nullptr,
                                  .join_exchange = nullptr,
                                  .exchange_ready = nullptr,
                                  .start_exchange = nullptr,
                                  .exchange_done = nullptr,
                                  .leave_exchange = nullptr,
                                  .packed_weight_size =
                                      [](int64_t* size, const PackWeight* p) {
                                        *size = cpu().packed_weight_size(*p);
                                        return Status::done;
                                      },
                                  .loss_chunk =
                                      [](LossChunk* chunk, int64_t rows, int64_t vocabulary, DType dtype) {
                                        *chunk = cpu().loss_chunk(rows, vocabulary, dtype);
                                        return Status::done;
                                      },
#define DRAGOMAN_ENTRY(name, Params) .name = [](const Params* p) { return run(#name, cpu().name, *p); },
                                  DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
};

const BackendApi& test_api() {
  return api;
}

}  // namespace

constinit const Memory memory = memory_of<test_api>(/*cached=*/false);  // so that every request is poisoned
constinit const Kernels kernels = kernels_of<test_api>();

Counts counts() {
  const std::lock_guard lock(state_mutex);
  return counted;
}

void fail_allocation(int64_t k) {
  const std::lock_guard lock(state_mutex);
  allocations_to_failure = k;
}

void fail_kernel(const std::string& name) {
  const std::lock_guard lock(state_mutex);
  failing_kernel = name;
}

}  // namespace dragoman::test
