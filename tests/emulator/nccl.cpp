// A plain NCCL for the emulator: the functions that csrc/cuda/nccl_abi.h declares, for processes of one
// machine.
//
// The unique id is the name of a folder, in TMPDIR. A message is a file there: the sender writes it when its
// stream reaches the group, the receiver takes it away, and the group is over when all its messages are. What
// NCCL refuses, or what would hang or corrupt memory there, is an error: messages of another size, a group
// that never ended, a call while another is in progress, memory that is no device's, two processes with one
// GPU.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/nccl_abi.h"
#include "cuda_runtime.h"

namespace nccl = dragoman::cuda::nccl;
namespace files = std::filesystem;

namespace dragoman::cuda::nccl {

constexpr Result system_error = 2, invalid_argument = 4, invalid_usage = 5;

struct Message {
  bool sent;
  void* data;
  size_t size;  // bytes
  int32_t other;
  int64_t number = 0;  // of those to, or from, the other one
  bool over = false;
};

struct Group {
  std::vector<Message> messages;
  cudaStream_t stream = nullptr;
  bool written = false;
};

struct Communicator {
  files::path folder;
  int32_t rank = 0, size = 0;
  bool joined = false, aborted = false;
  Result state = in_progress;
  int polls = 0;  // of the state since the last call
  Group group;
  std::map<int32_t, int64_t> sent, received;  // messages so far, by rank
};

}  // namespace dragoman::cuda::nccl

namespace {

std::string last_error;
int depth = 0;                           // of groups
nccl::Communicator* in_group = nullptr;  // that has messages in the present group

nccl::Result refuse(nccl::Result result, const std::string& why) {
  last_error = why;
  return result;
}

void write(const files::path& path, const void* data, size_t size) {
  const files::path part = path.string() + ".part";
  std::ofstream(part, std::ios::binary)
      .write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  files::rename(part, path);  // so that nobody reads half of it
}

std::string read(const files::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

files::path rank_file(const nccl::Communicator& c, int32_t rank) {
  return c.folder / ("rank-" + std::to_string(rank));
}

files::path message_file(const nccl::Communicator& c, const nccl::Message& m) {
  const int32_t from = m.sent ? c.rank : m.other, to = m.sent ? m.other : c.rank;
  return c.folder / (std::to_string(from) + "-" + std::to_string(to) + "-" + std::to_string(m.number));
}

// Whether all messages of a group are over; begins and goes on with those that are not.
bool advance(const nccl::Communicator& c, nccl::Group& group) {
  if (!group.written) {
    for (const nccl::Message& m : group.messages) {
      if (m.sent) write(message_file(c, m), m.data, m.size);
    }
    group.written = true;
  }
  bool all = true;
  for (nccl::Message& m : group.messages) {
    if (!m.over && m.sent) m.over = !files::exists(message_file(c, m));
    if (!m.over && !m.sent && files::exists(message_file(c, m))) {
      const std::string content = read(message_file(c, m));
      if (content.size() != m.size) {
        throw std::runtime_error("rank " + std::to_string(m.other) + " sent " +
                                 std::to_string(content.size()) + " bytes to rank " + std::to_string(c.rank) +
                                 ", which receives " + std::to_string(m.size));
      }
      std::memcpy(m.data, content.data(), m.size);
      m.over = files::remove(message_file(c, m));
    }
    all = all && m.over;
  }
  return all;
}

// The state of a process that waits for the others.
nccl::Result join(nccl::Communicator& c) {
  const std::string own = read(rank_file(c, c.rank));
  for (int32_t rank = 0; rank < c.size; ++rank) {
    if (!files::exists(rank_file(c, rank))) return nccl::in_progress;
    if (rank != c.rank && read(rank_file(c, rank)) == own) {
      return refuse(nccl::invalid_usage, "Duplicate GPU detected : rank " + std::to_string(c.rank) +
                                             " and rank " + std::to_string(rank) + " both on CUDA device " +
                                             own);
    }
  }
  c.joined = true;
  return nccl::success;
}

nccl::Result add(nccl::Communicator* c, bool sent, void* data, size_t count, int32_t type, int32_t other,
                 void* stream) {
  if (depth == 0) return refuse(nccl::invalid_usage, "the backend starts groups");
  if (c == nullptr || c->state != nccl::success) {
    return refuse(nccl::invalid_usage, "the communicator is in progress, or has failed");
  }
  if (type != nccl::float32 || other < 0 || other >= c->size) {
    return refuse(nccl::invalid_argument, "a wrong type or rank");
  }
  const size_t size = count * sizeof(float);
  if (!emulator::is_device_memory(data, size)) {
    return refuse(nccl::invalid_argument, "data is not in device memory");
  }
  int64_t& number = sent ? c->sent[other] : c->received[other];
  c->group.messages.push_back({sent, data, size, other, number++});
  c->group.stream = static_cast<cudaStream_t>(stream);
  in_group = c;
  return nccl::success;
}

}  // namespace

extern "C" {

nccl::Result ncclGetVersion(int32_t* version) {
  *version = 22703;
  return nccl::success;
}

nccl::Result ncclGetUniqueId(nccl::Id* id) {
  const char* folder = std::getenv("TMPDIR");
  std::string name = std::string(folder != nullptr ? folder : "/tmp") + "/nccl-XXXXXX";
  if (name.size() >= sizeof(id->bytes)) return refuse(nccl::system_error, "the name of TMPDIR is too long");
  if (mkdtemp(name.data()) == nullptr) return refuse(nccl::system_error, "no folder in TMPDIR");
  std::snprintf(id->bytes, sizeof(id->bytes), "%s", name.c_str());
  return nccl::success;
}

nccl::Result ncclCommInitRankConfig(nccl::Communicator** communicator, int32_t size, nccl::Id id,
                                    int32_t rank, nccl::Configuration* configuration) {
  const nccl::Configuration expected;
  if (configuration->size != expected.size || configuration->magic != expected.magic ||
      configuration->version != expected.version || configuration->blocking != 0) {
    return refuse(nccl::invalid_argument, "a wrong configuration");
  }
  if (rank < 0 || rank >= size) return refuse(nccl::invalid_argument, "a wrong rank");
  const files::path folder(std::string(id.bytes, strnlen(id.bytes, sizeof(id.bytes))));
  if (!files::is_directory(folder)) return refuse(nccl::system_error, "nobody has made this id");
  *communicator = new nccl::Communicator;
  (*communicator)->folder = folder;
  (*communicator)->rank = rank;
  (*communicator)->size = size;
  const std::string device = std::to_string(emulator::device());
  write(rank_file(**communicator, rank), device.data(), device.size());
  return nccl::in_progress;
}

// A call is in progress until this has been asked twice.
nccl::Result ncclCommGetAsyncError(nccl::Communicator* c, nccl::Result* state) {
  if (c->state == nccl::in_progress && !c->joined)
    c->state = join(*c);
  else if (c->state == nccl::in_progress && ++c->polls == 2) {
    emulator::enqueue_until(c->group.stream, [c, group = std::move(c->group)]() mutable {
      return c->aborted || advance(*c, group);
    });
    c->group = {};
    c->state = nccl::success;
  }
  *state = c->state;
  return nccl::success;
}

nccl::Result ncclCommAbort(nccl::Communicator* communicator) {
  communicator->aborted = true;  // and kept: work refers to it
  return nccl::success;
}

const char* ncclGetErrorString(nccl::Result result) {
  switch (result) {
    case nccl::system_error:
      return "unhandled system error";
    case nccl::invalid_argument:
      return "invalid argument";
    case nccl::invalid_usage:
      return "invalid usage";
    default:
      return "no error";
  }
}

const char* ncclGetLastError(nccl::Communicator*) { return last_error.c_str(); }

nccl::Result ncclGroupStart() {
  ++depth;
  return nccl::success;
}

nccl::Result ncclGroupEnd() {
  if (depth == 0) return refuse(nccl::invalid_usage, "a group that was not started");
  if (--depth > 0 || in_group == nullptr) return nccl::success;
  in_group->state = nccl::in_progress;
  in_group->polls = 0;
  in_group = nullptr;
  return nccl::in_progress;
}

nccl::Result ncclSend(const void* data, size_t count, int32_t type, int32_t rank,
                      nccl::Communicator* communicator, void* stream) {
  return add(communicator, true, const_cast<void*>(data), count, type, rank, stream);
}

nccl::Result ncclRecv(void* data, size_t count, int32_t type, int32_t rank, nccl::Communicator* communicator,
                      void* stream) {
  return add(communicator, false, data, count, type, rank, stream);
}

}  // extern "C"
