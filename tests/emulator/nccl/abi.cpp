// Compiles where csrc/cuda/nccl_abi.h says what NCCL's own header says.
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "cuda/nccl_abi.h"

namespace nccl = dragoman::cuda::nccl;

static_assert(nccl::success == ncclSuccess && nccl::in_progress == ncclInProgress);
static_assert(nccl::float32 == ncclFloat32);
static_assert(sizeof(nccl::Id) == sizeof(ncclUniqueId));

using Ours = nccl::Configuration;
static_assert(Ours().version == NCCL_VERSION(2, 14, 0));
static_assert(offsetof(Ours, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(Ours, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(Ours, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(Ours, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(Ours().magic == ncclConfig_t(NCCL_CONFIG_INITIALIZER).magic);

// Functions of as many parameters, of the same sizes, pointers where the other has pointers.
template <class Ours, class Theirs>
constexpr bool same_functions = false;
template <class R, class... P, class S, class... Q>
  requires(sizeof...(P) == sizeof...(Q))
constexpr bool same_functions<R (*)(P...), S (*)(Q...)> =
    sizeof(R) == sizeof(S) &&
    ((sizeof(P) == sizeof(Q) && std::is_pointer_v<P> == std::is_pointer_v<Q>) && ...);
#define COMPARE(Returned, name, parameters) \
  static_assert(same_functions<Returned(*) parameters, decltype(&name)>);
DRAGOMAN_NCCL(COMPARE)
