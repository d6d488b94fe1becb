#include "cuda/exchange.h"

#include <cuda_runtime.h>

#include <cstring>
#include <deque>

#include "cuda/launch.h"
#include "cuda/nccl.h"

namespace dragoman::cuda {

namespace {

const nccl::Library& library() {
  static const nccl::Library opened = nccl::open();
  if (!opened.problem.empty()) throw std::runtime_error(opened.problem);
  return opened;
}

// This process among those that have joined.
struct Exchange {
  nccl::Communicator* communicator = nullptr;
  cudaStream_t stream = nullptr;  // beside that of the kernels, so that both run at the same time
  int64_t started = 0, ended = 0;
  bool issuing = false;          // NCCL is still putting the last group into the stream
  std::deque<cudaEvent_t> ends;  // of the groups that are in the stream, the oldest first
};

Exchange& exchange() {
  static auto* made = new Exchange;  // never destroyed: the driver may be gone by then
  return *made;
}

Exchange& joined() {
  if (exchange().communicator == nullptr) throw std::runtime_error("this process has not joined");
  return exchange();
}

void record_end(Exchange& x) {
  cudaEvent_t end = nullptr;
  check(cudaEventCreateWithFlags(&end, cudaEventDisableTiming), "event");
  x.ends.push_back(end);
  check(cudaEventRecord(end, x.stream), "event");
}

}  // namespace

std::string exchange_version() {
  return library().version();
}

void exchange_id(char* id) {
  nccl::Id made = {};
  static_assert(sizeof(made) == exchange_id_size);
  library().check(library().ncclGetUniqueId(&made), "ncclGetUniqueId");
  std::memcpy(id, made.bytes, sizeof(made));
}

void join_exchange(const char* id, int64_t rank, int64_t size) {
  Exchange& x = exchange();
  if (x.communicator != nullptr) throw std::runtime_error("this process has joined already");
  if (x.stream == nullptr) check(cudaStreamCreateWithFlags(&x.stream, cudaStreamNonBlocking), "stream");
  nccl::Id given;
  std::memcpy(given.bytes, id, sizeof(given));
  nccl::Configuration configuration;
  library().check(library().ncclCommInitRankConfig(&x.communicator, static_cast<int32_t>(size), given,
                                                   static_cast<int32_t>(rank), &configuration),
                  "ncclCommInitRankConfig");
}

bool exchange_ready() {
  Exchange& x = joined();
  nccl::Result state = nccl::success;
  library().check(library().ncclCommGetAsyncError(x.communicator, &state), "ncclCommGetAsyncError");
  library().check(state, "ncclCommGetAsyncError", x.communicator);
  if (state == nccl::in_progress) return false;
  if (x.issuing) record_end(x);
  x.issuing = false;
  return true;
}

int64_t start_exchange(const ExchangeGroup& group) {
  Exchange& x = joined();
  if (!exchange_ready()) throw std::runtime_error("the group before is not in the stream yet");
  let_wait(x.stream);
  nccl::Result result = library().ncclGroupStart();
  const auto add = [&](nccl::Result next) {
    if (result == nccl::success || result == nccl::in_progress) result = next;
  };
  for (int64_t i = 0; i < group.num_sends; ++i) {
    const ExchangePart& part = group.sends[i];
    add(library().ncclSend(part.data, part.count, nccl::float32, part.rank, x.communicator, x.stream));
  }
  for (int64_t i = 0; i < group.num_receives; ++i) {
    const ExchangePart& part = group.receives[i];
    add(library().ncclRecv(part.data, part.count, nccl::float32, part.rank, x.communicator, x.stream));
  }
  add(library().ncclGroupEnd());  // even after an error
  library().check(result, "ncclGroupEnd", x.communicator);
  x.issuing = true;
  return ++x.started;
}

bool exchange_done(int64_t number) {
  if (!exchange_ready()) return false;
  Exchange& x = exchange();
  while (!x.ends.empty()) {
    const cudaError_t reached = cudaEventQuery(x.ends.front());
    if (reached == cudaErrorNotReady) break;
    check(reached, "group");
    check(cudaEventDestroy(x.ends.front()), "event");
    x.ends.pop_front();
    ++x.ended;
  }
  return number <= x.ended;
}

void leave_exchange() {
  Exchange& x = joined();
  nccl::Communicator* left = x.communicator;
  x.communicator = nullptr;
  x.issuing = false;
  x.ended = x.started;
  for (cudaEvent_t end : x.ends) check(cudaEventDestroy(end), "event");
  x.ends.clear();
  library().check(library().ncclCommAbort(left), "ncclCommAbort");
}

}  // namespace dragoman::cuda
