// A backend behind a C boundary: functions that return a status, so that no exception crosses it.
//
// A library of kernels for a device fills one BackendApi. From it come the tables of core/backend.h, whose
// functions throw. Both are generated from DRAGOMAN_KERNELS: a new op needs no line here.
#pragma once

#include <cstdint>

#include "core/backend.h"

namespace dragoman {

enum class Status : int32_t { done, out_of_memory, failed };

// What core/exchange.h asks of a backend.
constexpr int64_t exchange_id_size = 128;  // bytes

struct ExchangePart {
  int32_t rank;  // of the other process
  void* data;    // (count,) float32, on the device
  int64_t count;
};

struct ExchangeGroup {
  const ExchangePart* sends;
  int64_t num_sends;
  const ExchangePart* receives;
  int64_t num_receives;
};

struct BackendApi {
  const char* (*last_message)();  // why this thread's last call was not `done`
  Status (*allocate)(void** block, int64_t size);
  Status (*free)(void* block, int64_t size);
  Status (*copy)(void* to, const void* from, int64_t nbytes, CopyKind kind);
  Status (*zero)(void* data, int64_t nbytes);
  Status (*synchronize)();
  Status (*stream)(uintptr_t* stream);
  Status (*let_wait)(uintptr_t stream);
  Status (*exchange_version)(char* text, int64_t size);
  Status (*exchange_id)(char* id);
  Status (*join_exchange)(const char* id, int64_t rank, int64_t size);
  Status (*exchange_ready)(bool* ready);
  Status (*start_exchange)(int64_t* number, const ExchangeGroup* group);
  Status (*exchange_done)(bool* done, int64_t number);
  Status (*leave_exchange)();
  Status (*packed_weight_size)(int64_t* size, const PackWeight*);
  Status (*loss_chunk)(LossChunk* chunk, int64_t rows, int64_t vocabulary, DType dtype);
#define DRAGOMAN_MEMBER(name, Params) Status (*name)(const Params*);
  DRAGOMAN_KERNELS(DRAGOMAN_MEMBER)
#undef DRAGOMAN_MEMBER
};

// RuntimeError naming the call, or OutOfMemory, unless done.
void check_status(const BackendApi& api, const char* call, Status status);

template <const BackendApi& (*api)()>
constexpr Memory memory_of(bool cached) {
  return {
      .allocate = [](int64_t size) -> void* {
        void* block = nullptr;
        const Status status = api().allocate(&block, size);
        if (status == Status::out_of_memory) return nullptr;
        check_status(api(), "allocate", status);
        return block;
      },
      .free = [](void* block, int64_t size) { api().free(block, size); },  // a destructor may not throw
      .copy = [](void* to, const void* from, int64_t nbytes,
                 CopyKind kind) { check_status(api(), "copy", api().copy(to, from, nbytes, kind)); },
      .zero = [](void* data, int64_t nbytes) { check_status(api(), "zero", api().zero(data, nbytes)); },
      .synchronize = [] { check_status(api(), "synchronize", api().synchronize()); },
      .stream =
          [] {
            uintptr_t stream = 0;
            check_status(api(), "stream", api().stream(&stream));
            return stream;
          },
      .let_wait = [](uintptr_t stream) { check_status(api(), "let_wait", api().let_wait(stream)); },
      .cached = cached,
  };
}

template <const BackendApi& (*api)()>
constexpr Kernels kernels_of() {
  return {
#define DRAGOMAN_ENTRY(name, Params) \
  .name = [](const Params& p) { check_status(api(), #name, api().name(&p)); },
      DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
          .packed_weight_size =
          [](const PackWeight& p) {
            int64_t size = 0;
            check_status(api(), "packed_weight_size", api().packed_weight_size(&size, &p));
            return size;
          },
      .loss_chunk =
          [](int64_t rows, int64_t vocabulary, DType dtype) {
            LossChunk chunk{};
            check_status(api(), "loss_chunk", api().loss_chunk(&chunk, rows, vocabulary, dtype));
            return chunk;
          },
  };
}

}  // namespace dragoman
