// Ids and other indices that an op reads from memory which another thread may write meanwhile.
#pragma once

#include "core/tensor.h"

namespace dragoman {

// A copy of the first `count` of `indices` (n,), each checked to lie in [minimum, end) as it is read. So a
// kernel reads what was checked. ValueError for one that lies elsewhere, with its position.
Tensor checked_indices(const char* op, const char* argument, const Tensor& indices, int64_t count,
                       int64_t minimum, int64_t end);

}  // namespace dragoman
