// The number by which this library and that of the CUDA backend know that they were built together.
#pragma once

#include <cstdint>

#include "core/cuda_library.h"
#include "ops/ops.h"

namespace dragoman {

// Changes with the size of any contract.
constexpr int32_t cuda_api_version() {
  uint32_t hash = sizeof(BackendApi) + sizeof(HostFunctions);
#define DRAGOMAN_ADD(name, Params) hash = hash * 31 + sizeof(Params);
  DRAGOMAN_KERNELS(DRAGOMAN_ADD)
#undef DRAGOMAN_ADD
  return static_cast<int32_t>(hash);
}

}  // namespace dragoman
