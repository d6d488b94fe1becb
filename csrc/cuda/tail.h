// The rows of an output that are not in use.
#pragma once

#include "core/dtype.h"
#include "core/sequences.h"

namespace dragoman::cuda {

// Writes zeros to the rows of y (capacity, features) that are not in use.
void clear_tail(void* y, DType dtype, const Rows& rows, int64_t features);

}  // namespace dragoman::cuda
