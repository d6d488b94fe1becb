#include "core/exchange.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "core/backend_api.h"
#include "core/cuda_library.h"

namespace dragoman {

namespace {

using Parts = std::vector<OtherAndTensor>;

// Never destroyed: tensors may not outlive their device.
struct UnderWay {
  std::mutex mutex;
  int64_t size = 0;                                   // processes that have joined
  std::map<int64_t, std::pair<Parts, Parts>> groups;  // sends and receives, by number
};

UnderWay& under_way() {
  static auto* made = new UnderWay;
  return *made;
}

template <class... Parameters, class... Arguments>
void call(Status (*BackendApi::*function)(Parameters...), Arguments... arguments) {
  const BackendApi& api = checked_cuda_api();
  check_status(api, "exchange", (api.*function)(arguments...));
}

std::vector<ExchangePart> checked(const char* argument, const Parts& parts) {
  std::vector<ExchangePart> found;
  for (const auto& [rank, tensor] : parts) {
    CHECK(rank >= 0 && rank < under_way().size, "start_exchange: ranks in ", argument, " must lie in [0, ",
          under_way().size, "), got ", rank);
    check_dtype("start_exchange", argument, tensor, DType::float32);
    CHECK(tensor.device().kind == Device::Kind::cuda, "start_exchange: ", argument, " must be on cuda, got ",
          name(tensor.device()));
    found.push_back({static_cast<int32_t>(rank), tensor.raw(), tensor.numel()});
  }
  return found;
}

}  // namespace

std::string exchange_version() {
  char text[64] = "";
  call(&BackendApi::exchange_version, text, int64_t{sizeof(text)});
  return text;
}

std::string exchange_id() {
  std::string id(exchange_id_size, '\0');
  call(&BackendApi::exchange_id, id.data());
  return id;
}

void join_exchange(const std::string& id, int64_t rank, int64_t size) {
  CHECK(std::ssize(id) == exchange_id_size, "join_exchange: id must have ", exchange_id_size, " bytes, got ",
        id.size());
  CHECK(size > 0, "join_exchange: size must be above 0, got ", size);
  CHECK(rank >= 0 && rank < size, "join_exchange: rank must lie in [0, ", size, "), got ", rank);
  const std::lock_guard lock(under_way().mutex);
  call(&BackendApi::join_exchange, id.data(), rank, size);
  under_way().size = size;
}

bool exchange_ready() {
  const std::lock_guard lock(under_way().mutex);
  bool ready = false;
  call(&BackendApi::exchange_ready, &ready);
  return ready;
}

int64_t start_exchange(const Parts& sends, const Parts& receives) {
  const std::lock_guard lock(under_way().mutex);
  const std::vector<ExchangePart> to_send = checked("sends", sends),
                                  to_receive = checked("receives", receives);
  for (const auto& [rank, tensor] : receives) check_writeable("start_exchange", "receives", tensor);
  const ExchangeGroup group = {to_send.data(), std::ssize(to_send), to_receive.data(),
                               std::ssize(to_receive)};
  int64_t number = 0;
  call(&BackendApi::start_exchange, &number, &group);
  under_way().groups[number] = {sends, receives};
  return number;
}

bool exchange_done(int64_t number) {
  const std::lock_guard lock(under_way().mutex);
  bool done = false;
  call(&BackendApi::exchange_done, &done, number);
  if (!done) return false;
  std::map<int64_t, std::pair<Parts, Parts>>& groups = under_way().groups;
  const auto last = groups.upper_bound(number);
  for (auto group = groups.begin(); group != last; group = groups.erase(group)) {
    for (const auto& [rank, tensor] : group->second.second) tensor.storage()->written();
  }
  return true;
}

void leave_exchange() {
  const std::lock_guard lock(under_way().mutex);
  call(&BackendApi::leave_exchange);
  under_way().groups.clear();
}

}  // namespace dragoman
