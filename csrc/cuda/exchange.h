// Arrays on their way between processes, each of which has a GPU of its own, by NCCL.
#pragma once

#include <cstdint>
#include <string>

#include "core/backend_api.h"

namespace dragoman::cuda {

std::string exchange_version();  // "NCCL 2.27.3"
void exchange_id(char* id);      // exchange_id_size bytes, for the processes that will join
void join_exchange(const char* id, int64_t rank,
                   int64_t size);  // begins to join; exchange_ready says when all have

// Whether all have joined, and the group that was started last is in the stream. Groups can be started then.
bool exchange_ready();

// Starts a group of sends and receives, after the kernels that were started before. All processes start
// groups that match, in the same order. Returns their number so far, for exchange_done.
int64_t start_exchange(const ExchangeGroup& group);
bool exchange_done(int64_t number);  // whether the groups up to this one have ended
void leave_exchange();               // ends the groups that are under way

}  // namespace dragoman::cuda
