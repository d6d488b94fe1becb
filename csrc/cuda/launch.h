// Starts kernels on the backend's stream.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/check.h"

namespace dragoman::cuda {

cudaStream_t stream();
void let_wait(cudaStream_t other);  // what begins there from now on waits for what was started here so far

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Blocks in a grid's x direction; the other directions have at most 65,535.
inline dim3 grid_of(int64_t x, int64_t y = 1, int64_t z = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

// A grid without blocks starts nothing. `shared_bytes` is the size of DYNAMIC_SHARED.
template <class... Params, class... Arguments>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > size_t{48} << 10) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          "shared memory");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream();
  check(cudaLaunchKernelEx(&config, kernel, Params(arguments)...), "launch");
}

}  // namespace dragoman::cuda
