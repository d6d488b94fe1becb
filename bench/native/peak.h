// What this machine does at most with the instruction set in use, measured on the spot on num_threads()
// threads.
#pragma once

#include "core/dtype.h"

namespace dragoman::bench {

// Multiply-adds of float32, bfloat16 or int8 and nothing else.
double peak_gflops(DType dtype);
// The register tile of products of float32 or bfloat16, which loads its operands from the nearest caches.
double tile_gflops(DType dtype);
// b += a, over so many bytes read and written.
double stream_gbytes(double bytes);

}  // namespace dragoman::bench
