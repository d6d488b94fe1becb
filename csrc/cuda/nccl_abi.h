// What the backend calls of NCCL 2, declared here: it builds without NCCL's header. A test compares these
// declarations with the header.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dragoman::cuda::nccl {

using Result = int32_t;
inline constexpr Result success = 0, in_progress = 7;
inline constexpr int32_t float32 = 7;  // of its data types

struct Communicator;

struct Id {
  char bytes[128];
};

// The configuration as version 2.14 has it. Later versions take their defaults for what it does not have.
struct Configuration {
  size_t size = sizeof(Configuration);
  uint32_t magic = 0xcafebeef;
  uint32_t version = 21400;
  int32_t blocking = 0;  // 0: calls return at once, and the communicator's state says when they are over
};

// X(what it returns, name, parameters)
#define DRAGOMAN_NCCL(X)                                                                            \
  X(nccl::Result, ncclGetVersion, (int32_t* version))                                               \
  X(nccl::Result, ncclGetUniqueId, (nccl::Id * id))                                                 \
  X(nccl::Result, ncclCommInitRankConfig,                                                           \
    (nccl::Communicator * *communicator, int32_t size, nccl::Id id, int32_t rank,                   \
     nccl::Configuration* configuration))                                                           \
  X(nccl::Result, ncclCommGetAsyncError, (nccl::Communicator * communicator, nccl::Result * state)) \
  X(nccl::Result, ncclCommAbort, (nccl::Communicator * communicator))                               \
  X(const char*, ncclGetErrorString, (nccl::Result result))                                         \
  X(const char*, ncclGetLastError, (nccl::Communicator * communicator))                             \
  X(nccl::Result, ncclGroupStart, ())                                                               \
  X(nccl::Result, ncclGroupEnd, ())                                                                 \
  X(nccl::Result, ncclSend,                                                                         \
    (const void* data, size_t count, int32_t type, int32_t rank, nccl::Communicator* communicator,  \
     void* stream))                                                                                 \
  X(nccl::Result, ncclRecv,                                                                         \
    (void* data, size_t count, int32_t type, int32_t rank, nccl::Communicator* communicator, void* stream))

}  // namespace dragoman::cuda::nccl
