// Tensors on their way between processes, each of which has a GPU of its own.
//
// A process joins the others, then starts groups of sends and receives. All processes start groups that
// match, in the same order. RuntimeError where NCCL is missing or fails; ValueError where CUDA is missing.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace dragoman {

// Another process's rank, and a tensor on `cuda`: float32. It stays alive while it is on its way.
using OtherAndTensor = std::pair<int64_t, Tensor>;

std::string exchange_version();  // of NCCL: "NCCL 2.27.3"
std::string exchange_id();       // bytes that one process makes, and all join by
void join_exchange(const std::string& id, int64_t rank, int64_t size);  // begins to
bool exchange_ready();  // whether all have joined, and the device has the group that was started last
int64_t start_exchange(
    const std::vector<OtherAndTensor>& sends,
    const std::vector<OtherAndTensor>& receives);  // when ready; the group's number, from 1
bool exchange_done(int64_t number);                // whether the groups up to this one have ended
void leave_exchange();                             // ends what is under way

}  // namespace dragoman
