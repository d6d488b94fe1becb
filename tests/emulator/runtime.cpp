// The run time of the emulator: streams whose work waits, events, and memory that starts as NaN.
//
// DRAGOMAN_EMULATOR_MEMORY is the device's memory in bytes, DRAGOMAN_EMULATOR_DEVICES the number of GPUs, of
// which a process uses the first that CUDA_VISIBLE_DEVICES names. With CUDA_LAUNCH_BLOCKING=1, as with CUDA
// itself, kernels run when they are launched, and their errors have the name of the op.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cuda_runtime.h"

struct EmulatedStream {
  std::deque<std::function<bool()>> work;  // false: not over yet
};

struct EmulatedEvent {
  cudaStream_t stream = nullptr;
  int64_t recorded = 0, reached = 0;  // times
};

namespace emulator {

namespace {

// Never destroyed: the interpreter may free tensors at its very end.
struct Runtime {
  std::recursive_mutex mutex;
  std::deque<EmulatedStream> streams = std::deque<EmulatedStream>(1);  // the first one is the default stream
  std::map<uintptr_t, size_t> device, page_locked;                     // blocks: begin and size
  std::map<const void*, size_t> shared_limits;                         // of kernels that have asked for more
  size_t in_use = 0;
  std::string error;  // of work that failed
};

Runtime& runtime() {
  static auto* made = new Runtime;
  return *made;
}

using Lock = std::lock_guard<std::recursive_mutex>;

// Handles up to 2 are CUDA's names of the default stream.
EmulatedStream& stream_of(cudaStream_t handle) {
  return reinterpret_cast<uintptr_t>(handle) <= 2 ? runtime().streams.front() : *handle;
}

// cudaErrorNotReady where it is not over: it waits for another process.
cudaError_t run_first(EmulatedStream& stream) {
  std::function<bool()> work = std::move(stream.work.front());
  stream.work.pop_front();
  try {
    if (work()) return cudaSuccess;
  } catch (const std::exception& error) {
    runtime().error = error.what();
    stream.work.clear();
    return cudaErrorLaunchFailure;
  }
  stream.work.push_front(std::move(work));
  return cudaErrorNotReady;
}

template <class Condition>
cudaError_t run_while(EmulatedStream& stream, const Condition& condition) {
  while (!stream.work.empty() && condition()) {
    const cudaError_t error = run_first(stream);
    if (error == cudaErrorNotReady) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    } else if (error != cudaSuccess) {
      return error;
    }
  }
  return cudaSuccess;
}

cudaError_t run_all(EmulatedStream& stream) {
  return run_while(stream, [] { return true; });
}

cudaError_t reach(EmulatedEvent& event, int64_t count) {
  if (event.stream == nullptr) return cudaSuccess;
  return run_while(*event.stream, [&] { return event.reached < count; });
}

bool holds(const std::map<uintptr_t, size_t>& blocks, const void* data, size_t size) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
  const auto after = blocks.upper_bound(begin);
  return after != blocks.begin() && begin + size <= std::prev(after)->first + std::prev(after)->second;
}

// The GPUs that CUDA_VISIBLE_DEVICES leaves of DRAGOMAN_EMULATOR_DEVICES. A wrong number ends them.
std::vector<int> devices() {
  const char* wanted = std::getenv("DRAGOMAN_EMULATOR_DEVICES");
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const int count = wanted != nullptr ? std::atoi(wanted) : 1;
  std::vector<int> found;
  if (visible == nullptr) {
    for (int device = 0; device < count; ++device) found.push_back(device);
    return found;
  }
  std::istringstream numbers(visible);
  for (std::string number; std::getline(numbers, number, ',');) {
    if (number.empty() || std::atoi(number.c_str()) >= count) break;
    found.push_back(std::atoi(number.c_str()));
  }
  return found;
}

size_t device_memory() {
  const char* wanted = std::getenv("DRAGOMAN_EMULATOR_MEMORY");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : size_t{4} << 30;
}

}  // namespace

void enqueue_until(cudaStream_t stream, std::function<bool()> over) {
  const Lock lock(runtime().mutex);
  stream_of(stream).work.push_back(std::move(over));
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  enqueue_until(stream, [work = std::move(work)] {
    work();
    return true;
  });
}

bool is_device_memory(const void* data, size_t size) {
  const Lock lock(runtime().mutex);
  return holds(runtime().device, data, size);
}

int device() { return devices().at(0); }

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body) {
  const Lock lock(runtime().mutex);
  const dim3 grid = config.gridDim, block = config.blockDim;
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.x > 0x7FFFFFFF || grid.y == 0 ||
      grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  const auto limit = runtime().shared_limits.find(kernel);
  const size_t allowed = limit == runtime().shared_limits.end() ? size_t{48} << 10 : limit->second;
  if (config.dynamicSmemBytes > allowed) return cudaErrorInvalidValue;
  enqueue(config.stream, [grid, block, shared = config.dynamicSmemBytes, body = std::move(body)] {
    run(grid, block, shared, body);
  });
  static const bool blocking = std::getenv("CUDA_LAUNCH_BLOCKING") != nullptr;
  return blocking ? run_all(stream_of(config.stream)) : cudaSuccess;
}

}  // namespace emulator

using namespace emulator;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure:
      return runtime().error.c_str();
    default:
      return "no error";
  }
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime().mutex);
  for (EmulatedStream& stream : runtime().streams) {
    if (const cudaError_t error = run_all(stream); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(devices().size());
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const Lock lock(runtime().mutex);
  if (value > 227 << 10) return cudaErrorInvalidValue;
  runtime().shared_limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** block, size_t size) {
  const Lock lock(runtime().mutex);
  if (size > device_memory() - runtime().in_use) return cudaErrorMemoryAllocation;
  if (posix_memalign(block, 256, size) != 0) return cudaErrorMemoryAllocation;
  std::memset(*block, 0xFF, size);  // NaN in float32 and bfloat16, -1 in integers
  runtime().device[reinterpret_cast<uintptr_t>(*block)] = size;
  runtime().in_use += size;
  return cudaSuccess;
}

cudaError_t cudaFree(void* block) {
  const Lock lock(runtime().mutex);
  const auto found = runtime().device.find(reinterpret_cast<uintptr_t>(block));
  if (found == runtime().device.end()) return cudaErrorInvalidValue;
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) return error;
  runtime().in_use -= found->second;
  runtime().device.erase(found);
  std::free(block);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** block, size_t size, unsigned) {
  const Lock lock(runtime().mutex);
  if (posix_memalign(block, 4096, size) != 0) return cudaErrorMemoryAllocation;
  runtime().page_locked[reinterpret_cast<uintptr_t>(*block)] = size;
  return cudaSuccess;
}

// Page-locked memory is read and written when the copy takes its turn, other memory before this returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (from_device != holds(runtime().device, from, size) || to_device != holds(runtime().device, to, size)) {
    return cudaErrorInvalidValue;
  }
  if (kind == cudaMemcpyHostToDevice && !holds(runtime().page_locked, from, size)) {
    const std::string staged(static_cast<const char*>(from), size);
    enqueue(stream, [=] { std::memcpy(to, staged.data(), size); });
    return cudaSuccess;
  }
  enqueue(stream, [=] { std::memmove(to, from, size); });
  const bool at_once = kind == cudaMemcpyDeviceToHost && !holds(runtime().page_locked, to, size);
  return at_once ? run_all(stream_of(stream)) : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t size, cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  if (!holds(runtime().device, data, size)) return cudaErrorInvalidValue;
  enqueue(stream, [=] { std::memset(data, value, size); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(runtime().mutex);
  *stream = &runtime().streams.emplace_back();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  return run_all(stream_of(stream));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  event->stream = &stream_of(stream);
  enqueue(stream, [event, count = ++event->recorded] { event->reached = count; });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime().mutex);
  while (event->reached < event->recorded && !event->stream->work.empty()) {
    if (const cudaError_t error = run_first(*event->stream); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime().mutex);
  return reach(*event, event->recorded);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(runtime().mutex);
  enqueue(stream, [event, count = event->recorded] {
    if (reach(*event, count) != cudaSuccess) throw std::runtime_error(runtime().error);
  });
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }  // kept: work may wait for it
