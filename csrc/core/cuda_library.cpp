#include "core/cuda_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "core/allocator.h"
#include "core/cuda_version.h"

namespace dragoman {

namespace {

constexpr Device cuda_device{Device::Kind::cuda};

const HostFunctions host_functions = {
    .allocate = [](int64_t nbytes) -> void* {
      try {
        return current_allocator(cuda_device)->allocate(nbytes);
      } catch (const std::exception&) {
        return nullptr;
      }
    },
    .free = [](void* block, int64_t nbytes) { current_allocator(cuda_device)->free(block, nbytes); },
};

struct CudaLibrary {
  const BackendApi* api = nullptr;
  std::string problem;  // why there is none
};

// The file that the environment's DRAGOMAN_CUDA_LIBRARY names, or the one in this library's folder.
std::string library_path() {
  const char* wanted = std::getenv("DRAGOMAN_CUDA_LIBRARY");
  if (wanted != nullptr && *wanted != '\0') return wanted;
  Dl_info self;
  if (dladdr(&host_functions, &self) == 0 || self.dli_fname == nullptr) return "";
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + "libdragoman_cuda.so";
}

bool exists(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file != nullptr) std::fclose(file);
  return file != nullptr;
}

// Of the processes that a launcher starts on a machine, each takes one GPU, by its number among them. CUDA
// reads the variable when it starts. Where it names one GPU, the launcher has chosen.
void take_gpu() {
  const char* number = nullptr;
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}) {
    if (number == nullptr) number = std::getenv(name);
  }
  if (number == nullptr) return;
  std::string gpu = number;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    if (std::strchr(visible, ',') == nullptr) return;
    std::istringstream gpus(visible);
    for (int left = std::atoi(number); left >= 0; --left) {
      if (!std::getline(gpus, gpu, ',')) gpu.clear();  // more processes than GPUs
    }
  }
  setenv("CUDA_VISIBLE_DEVICES", gpu.c_str(), 1);
}

CudaLibrary open_library() {
  const std::string path = library_path();
  if (!exists(path)) return {nullptr, "this build has no CUDA backend"};
  take_gpu();
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed
  if (handle == nullptr) return {nullptr, concat("the CUDA backend cannot be opened (", dlerror(), ")")};
  const auto entry = reinterpret_cast<CudaEntry>(dlsym(handle, "dragoman_cuda_api"));
  if (entry == nullptr) return {nullptr, concat(path, " is no CUDA backend")};
  const char* problem = "";
  const BackendApi* api = entry(cuda_api_version(), &host_functions, &problem);
  return {api, problem};
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary opened = open_library();
  return opened;
}

const BackendApi& cuda_api() {
  return *cuda_library().api;
}

}  // namespace

void check_cuda(Device device) {
  const CudaLibrary& library = cuda_library();
  CHECK(library.api != nullptr, "device: ", library.problem, "; use device=\"cpu\"");
  CHECK(device.index == 0, "device: a process uses one GPU, cuda; got ", name(device),
        " (CUDA_VISIBLE_DEVICES chooses which one)");
}

const BackendApi& checked_cuda_api() {
  check_cuda(cuda_device);
  return cuda_api();
}

constinit const Memory cuda_memory = memory_of<cuda_api>(/*cached=*/true);
constinit const Kernels cuda_kernels = kernels_of<cuda_api>();

}  // namespace dragoman
