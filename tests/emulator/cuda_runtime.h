// CUDA's header of this name, as far as the backend uses it, over emulator.h and runtime.cpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>

#include "emulator.h"

#define CUDART_VERSION 13000
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local  // threads of a block are fibers of one thread; see emulator.cpp

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::isfinite;
using std::max;
using std::min;
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline void __syncthreads() { emulator::arrive(emulator::block->barrier, emulator::block->num_threads); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::sync_warp(mask); }
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source) {
  return emulator::exchange(mask, value, [&](auto of) { return of(source & 31); });
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int distance) {
  const int lane = emulator::thread->lane;
  return emulator::exchange(mask, value, [&](auto of) { return of(lane ^ distance); });
}
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
};
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0;

using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

extern "C" {  // tests call some of them
#pragma GCC visibility push(default)
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaMalloc(void** block, size_t size);
cudaError_t cudaFree(void* block);
cudaError_t cudaHostAlloc(void** block, size_t size, unsigned flags);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, size_t size, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
#pragma GCC visibility pop
}

namespace emulator {
// Work waits in its stream until something waits for the stream.
void enqueue(cudaStream_t stream, std::function<void()> work);
void enqueue_until(cudaStream_t stream, std::function<bool()> over);  // called again while it returns false
bool is_device_memory(const void* data, size_t size);
int device();  // the number of the GPU on this machine
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body);
}  // namespace emulator

template <class... Params, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Arguments&&... arguments) {
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel),
                          [kernel, held = std::tuple<Params...>(arguments...)] { std::apply(kernel, held); });
}
