// Opens a library that is not linked.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <string>

namespace dragoman::cuda {

// The file that this process has loaded already; else the one in the first folder of the environment's
// DRAGOMAN_CUDA_LIBRARIES (with colons between them) that has it; else the one that NVIDIA's `package` has
// put beside this one; else the one that the dynamic linker finds. It is never closed. Null where there is
// none; then `problem` says why, for every place.
inline void* open_library(const std::string& file, const std::string& package, std::string& problem) {
  if (void* loaded = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return loaded;
  const char* listed = std::getenv("DRAGOMAN_CUDA_LIBRARIES");
  std::string folders = listed == nullptr ? "" : std::string(listed) + ":";
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&open_library), &self) != 0 && self.dli_fname != nullptr) {
    const std::string path = self.dli_fname;
    folders += path.substr(0, path.rfind('/') + 1) + "../nvidia/" + package + "/lib:";
  }
  while (true) {
    const size_t end = folders.find(':');  // none is left: the file by its name
    const std::string path = end == std::string::npos ? file : folders.substr(0, end) + "/" + file;
    if (void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return opened;
    problem += (problem.empty() ? "" : "; ") + std::string(dlerror());
    if (end == std::string::npos) return nullptr;
    folders = folders.substr(end + 1);
  }
}

}  // namespace dragoman::cuda
