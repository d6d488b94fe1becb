// Errors of the CUDA backend. backend.cu turns them into a Status and a message.
#pragma once

#include <cuda_runtime.h>

#include <new>
#include <stdexcept>
#include <string>

namespace dragoman::cuda {

struct OutOfDeviceMemory : std::bad_alloc {
  const char* what() const noexcept override { return "out of memory on cuda"; }
};

// Throws unless `error` is cudaSuccess. The error is taken from the runtime: the next call starts afresh.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) throw OutOfDeviceMemory();
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// For what this backend leaves out: "int8 products are not supported on cuda".
[[noreturn]] inline void unsupported(const char* what) {
  throw std::runtime_error(std::string(what) + " are not supported on cuda");
}

}  // namespace dragoman::cuda
