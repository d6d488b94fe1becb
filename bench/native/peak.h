// What this machine does at most with the instruction set in use, measured on the spot on num_threads()
// threads.
#pragma once

#include "core/dtype.h"

namespace dragoman::bench {

// Multiply-adds of float32, bfloat16 or int8 and nothing else.
double peak_gflops(DType dtype);
// The register tile of products of float32 or bfloat16, which loads its operands from the nearest caches.
double tile_gflops(DType dtype);
// Copies of a float32 or bfloat16 matrix from L2 to L2 in the order in which that tile reads it, in GB of the
// matrix.
double pack_gbytes(DType dtype);
// Softmax of float32 rows in L1, in billions of elements.
double softmax_gelements();
// b += a, over so many bytes read and written.
double stream_gbytes(double bytes);
// A buffer of so many bytes, read again and again.
double read_gbytes(int64_t bytes);

}  // namespace dragoman::bench
