// NCCL as a library that is opened on first use.
#pragma once

#include <stdexcept>
#include <string>

#include "core/check.h"
#include "cuda/nccl_abi.h"

#ifdef DRAGOMAN_EMULATOR
#define DRAGOMAN_DECLARE(Returned, name, parameters) extern "C" Returned name parameters;
namespace nccl = dragoman::cuda::nccl;
DRAGOMAN_NCCL(DRAGOMAN_DECLARE)  // tests/emulator/nccl.cpp
#undef DRAGOMAN_DECLARE
#else
#include "cuda/open_library.h"
#endif

namespace dragoman::cuda::nccl {

struct Library {
#define DRAGOMAN_MEMBER(Returned, name, parameters) Returned(*name) parameters = nullptr;
  DRAGOMAN_NCCL(DRAGOMAN_MEMBER)
#undef DRAGOMAN_MEMBER
  std::string problem;  // why it cannot be used; empty where it can

  // "NCCL 2.27.3"
  std::string version() const {
    int32_t number = 0;
    ncclGetVersion(&number);
    return concat("NCCL ", number / 10000, ".", number / 100 % 100, ".", number % 100);
  }

  // RuntimeError unless the call has succeeded, or is under way.
  void check(Result result, const char* call, Communicator* communicator = nullptr) const {
    if (result == success || result == in_progress) return;
    const std::string detail = ncclGetLastError(communicator);
    throw std::runtime_error(concat(version(), ": ", call, ": ", ncclGetErrorString(result),
                                    detail.empty() ? "" : concat(" (", detail, ")")));
  }
};

inline Library open() {
  Library library;
#ifdef DRAGOMAN_EMULATOR
#define DRAGOMAN_FIND(Returned, name, parameters) library.name = &::name;
#else
  void* file = open_library("libnccl.so.2", "nccl", library.problem);
  if (file == nullptr) {
    library.problem =
        concat("NCCL was not found; install it by: pip install 'dragoman[nccl]' (", library.problem, ")");
    return library;
  }
  library.problem.clear();
#define DRAGOMAN_FIND(Returned, name, parameters)                              \
  library.name = reinterpret_cast<Returned(*) parameters>(dlsym(file, #name)); \
  if (library.name == nullptr) library.problem = concat("this NCCL has no function ", #name);
#endif
  DRAGOMAN_NCCL(DRAGOMAN_FIND)
#undef DRAGOMAN_FIND
  return library;
}

}  // namespace dragoman::cuda::nccl
