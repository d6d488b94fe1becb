// The CUDA backend: a library beside this one, opened at the first use of a device `cuda`.
#pragma once

#include <cstdint>

#include "core/backend.h"
#include "core/backend_api.h"

namespace dragoman {

// What the CUDA library calls in this one.
struct HostFunctions {
  // Device memory from the caching allocator; null when there is none left.
  void* (*allocate)(int64_t nbytes);
  void (*free)(void* block, int64_t nbytes);
};

// The library's one symbol: "dragoman_cuda_api". `version` is cuda_api_version(). Null with a sentence in
// `problem` where CUDA cannot be used.
using CudaEntry = const BackendApi* (*)(int32_t version, const HostFunctions* host, const char** problem);

// ValueError that says what is missing where this device cannot be used.
void check_cuda(Device device);

// The library's functions, as check_cuda.
const BackendApi& checked_cuda_api();

extern const Memory cuda_memory;
extern const Kernels cuda_kernels;

}  // namespace dragoman
