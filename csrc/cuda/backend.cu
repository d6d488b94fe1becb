// The library's entry point: memory, status and the table of kernels behind the C boundary.
#include <cuda_runtime.h>
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include "core/check.h"
#include "core/cuda_version.h"
#include "cuda/cublaslt.h"
#include "cuda/exchange.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

const HostFunctions* host = nullptr;
cudaStream_t the_stream = nullptr;
bool forked = false;  // in a child of the process that opened the library: CUDA does not work there

thread_local char message[512];

void keep_message(const char* text) {
  std::snprintf(message, sizeof(message), "%s", text);
}

// No exception crosses the boundary: its text is kept for last_message.
template <class Body>
Status guarded(const Body& body) noexcept {
  if (forked) {
    keep_message(
        "this process was forked from one that uses CUDA, and cannot use it; start processes with spawn");
    return Status::failed;
  }
  try {
    body();
    return Status::done;
  } catch (const std::bad_alloc& error) {
    keep_message(error.what());
    return Status::out_of_memory;
  } catch (const std::exception& error) {
    keep_message(error.what());
    return Status::failed;
  }
}

// Page-locked memory from which uploads go while the host goes on. A slot is used again when its copy ended.
class UploadRing {
 public:
  static constexpr int64_t slot_size = int64_t{256} << 10;

  void copy(void* to, const void* from, int64_t nbytes) {
    const std::lock_guard lock(mutex_);
    if (slots_ == nullptr) make();
    const int slot = next_;
    next_ = (next_ + 1) % num_slots;
    check(cudaEventSynchronize(free_[slot]), "upload");
    char* staged = slots_ + slot * slot_size;
    std::memcpy(staged, from, static_cast<size_t>(nbytes));
    check(cudaMemcpyAsync(to, staged, static_cast<size_t>(nbytes), cudaMemcpyHostToDevice, the_stream),
          "upload");
    check(cudaEventRecord(free_[slot], the_stream), "upload");
  }

 private:
  static constexpr int num_slots = 16;

  void make() {
    for (cudaEvent_t& event : free_) {
      if (event == nullptr) check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    }
    void* block = nullptr;
    check(cudaHostAlloc(&block, num_slots * slot_size, cudaHostAllocDefault), "page-locked memory");
    slots_ = static_cast<char*>(block);
  }

  std::mutex mutex_;
  char* slots_ = nullptr;
  cudaEvent_t free_[num_slots] = {};
  int next_ = 0;
};

UploadRing& upload_ring() {
  static auto* ring = new UploadRing;  // never destroyed: the driver may be gone by then
  return *ring;
}

void copy(void* to, const void* from, int64_t nbytes, CopyKind kind) {
  const size_t size = static_cast<size_t>(nbytes);
  switch (kind) {
    case CopyKind::to_device:
      if (nbytes <= UploadRing::slot_size) return upload_ring().copy(to, from, nbytes);
      check(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, the_stream), "copy");
      return check(cudaStreamSynchronize(the_stream), "copy");
    case CopyKind::to_host:
      check(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, the_stream), "copy");
      return check(cudaStreamSynchronize(the_stream), "copy");
    default:
      return check(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, the_stream), "copy");
  }
}

constexpr BackendApi api = {
    .last_message = [] { return static_cast<const char*>(message); },
    .allocate =
        [](void** block, int64_t size) {
          return guarded([&] { check(cudaMalloc(block, static_cast<size_t>(size)), "allocate"); });
        },
    .free = [](void* block, int64_t) { return guarded([&] { check(cudaFree(block), "free"); }); },
    .copy = [](void* to, const void* from, int64_t nbytes,
               CopyKind kind) { return guarded([&] { copy(to, from, nbytes, kind); }); },
    .zero =
        [](void* data, int64_t nbytes) {
          return guarded(
              [&] { check(cudaMemsetAsync(data, 0, static_cast<size_t>(nbytes), the_stream), "zero"); });
        },
    // Other libraries' streams too: their memory and ours travel by DLPack.
    .synchronize = [] { return guarded([] { check(cudaDeviceSynchronize(), "synchronize"); }); },
    .stream =
        [](uintptr_t* stream) {
          *stream = reinterpret_cast<uintptr_t>(the_stream);
          return Status::done;
        },
    .let_wait =
        [](uintptr_t stream) { return guarded([&] { let_wait(reinterpret_cast<cudaStream_t>(stream)); }); },
    .exchange_version =
        [](char* text, int64_t size) {
          return guarded(
              [&] { std::snprintf(text, static_cast<size_t>(size), "%s", exchange_version().c_str()); });
        },
    .exchange_id = [](char* id) { return guarded([&] { exchange_id(id); }); },
    .join_exchange = [](const char* id, int64_t rank,
                        int64_t size) { return guarded([&] { join_exchange(id, rank, size); }); },
    .exchange_ready = [](bool* ready) { return guarded([&] { *ready = exchange_ready(); }); },
    .start_exchange =
        [](int64_t* number, const ExchangeGroup* group) {
          return guarded([&] { *number = start_exchange(*group); });
        },
    .exchange_done = [](bool* done,
                        int64_t number) { return guarded([&] { *done = exchange_done(number); }); },
    .leave_exchange = [] { return guarded([] { leave_exchange(); }); },
    .packed_weight_size =
        [](int64_t* size, const PackWeight* p) { return guarded([&] { *size = packed_weight_size(*p); }); },
    .loss_chunk = [](LossChunk* chunk, int64_t rows, int64_t vocabulary,
                     DType dtype) { return guarded([&] { *chunk = loss_chunk(rows, vocabulary, dtype); }); },
#define DRAGOMAN_ENTRY(name, Params) .name = [](const Params* p) { return guarded([&] { name(*p); }); },
    DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
};

// Empty when this machine can run the backend.
std::string problem() {
  int driver = 0, devices = 0, major = 0, minor = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) return "this machine has no NVIDIA driver";
  if (driver < CUDART_VERSION / 1000 * 1000) {
    return concat("the NVIDIA driver is too old: it knows CUDA ", driver / 1000, ", this build needs ",
                  CUDART_VERSION / 1000);
  }
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted == cudaErrorNoDevice || (counted == cudaSuccess && devices == 0)) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible == nullptr) return "this machine has no CUDA device";
    return concat("CUDA_VISIBLE_DEVICES=\"", visible,
                  "\" leaves this process no GPU; mpirun and srun may start one process for each GPU");
  }
  if (counted != cudaSuccess) return std::string("CUDA does not start: ") + cudaGetErrorString(counted);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (major < 8)
    return concat("the GPU has compute capability ", major, ".", minor, ", this build needs 8.0 or more");
  const cudaError_t made = cudaStreamCreateWithFlags(&the_stream, cudaStreamNonBlocking);
  if (made != cudaSuccess) return std::string("CUDA does not start: ") + cudaGetErrorString(made);
  return cublaslt_problem();
}

}  // namespace

cudaStream_t stream() {
  return the_stream;
}

void let_wait(cudaStream_t stream) {
  cudaEvent_t reached = nullptr;
  check(cudaEventCreateWithFlags(&reached, cudaEventDisableTiming), "event");
  check(cudaEventRecord(reached, the_stream), "event");
  check(cudaStreamWaitEvent(stream, reached, 0), "event");
  check(cudaEventDestroy(reached), "event");  // once it is reached
}

Scratch::Scratch(int64_t nbytes) : data(host->allocate(nbytes)), nbytes_(nbytes) {
  if (data == nullptr) throw OutOfDeviceMemory();
}

Scratch::~Scratch() {
  host->free(data, nbytes_);
}

}  // namespace dragoman::cuda

extern "C" __attribute__((visibility("default"))) const dragoman::BackendApi* dragoman_cuda_api(
    int32_t version, const dragoman::HostFunctions* host, const char** problem) {
  using namespace dragoman;
  static std::string why;
  if (version != cuda_api_version()) {
    why = "the CUDA backend is of another version than dragoman";
  } else {
    cuda::host = host;
    why = cuda::problem();
    pthread_atfork(nullptr, nullptr, [] { cuda::forked = true; });
  }
  *problem = why.c_str();
  return why.empty() ? &cuda::api : nullptr;
}
