// Floats of a file, read and widened on all threads.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace dragoman {

// Fills `out`, float32 on the CPU, with the values of a file that begin at byte `place`. They are of `dtype`:
// "float64", which is rounded, "float32", "float16" or "bfloat16". Returns 0, the errno of a read that
// failed, or -1 where the file ends before.
int read_floats(int descriptor, int64_t place, const std::string& dtype, const Tensor& out);

}  // namespace dragoman
