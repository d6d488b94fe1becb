// Opens the NCCL of this machine as the backend does. Prints its version, and why this process cannot join.
#include <cstdio>

#include "cuda/nccl.h"

int main() {
  using namespace dragoman::cuda;
  const nccl::Library library = nccl::open();
  if (!library.problem.empty()) return std::puts(library.problem.c_str()), 1;
  std::puts(library.version().c_str());
  try {
    nccl::Id id = {};
    library.check(library.ncclGetUniqueId(&id), "ncclGetUniqueId");
    nccl::Communicator* communicator = nullptr;
    nccl::Configuration configuration;
    library.check(library.ncclCommInitRankConfig(&communicator, 1, id, 0, &configuration),
                  "ncclCommInitRankConfig");
    nccl::Result state = nccl::in_progress;
    while (state == nccl::in_progress) {
      library.check(library.ncclCommGetAsyncError(communicator, &state), "ncclCommGetAsyncError");
    }
    library.check(state, "join", communicator);
    std::puts("joined");
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
}
