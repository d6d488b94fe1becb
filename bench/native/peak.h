// What this machine does at most with the instruction set in use, measured on the spot on num_threads()
// threads.
#pragma once

#include "core/dtype.h"

namespace dragoman::bench {

double peak_gflops(DType dtype);  // multiply-adds of float32, bfloat16 or int8 and nothing else
double tile_gflops(
    DType dtype);  // the matrix product's register tile of float32 or bfloat16 alone, from cache
double stream_gbytes(double bytes);  // b += a, over so many bytes read and written

}  // namespace dragoman::bench
