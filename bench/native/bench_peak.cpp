// The highest rates of this machine on num_threads() threads, as a line of JSON for bench/bounds.py.
#include <cstdio>

#include "core/backend.h"
#include "core/parallel.h"
#include "peak.h"

int main() {
  using namespace dragoman;
  using namespace dragoman::bench;
  std::printf("{\"isa\": \"%s\", \"threads\": %d, \"float32\": %.1f, \"bfloat16\": %.1f, ", cpu_isa().c_str(),
              num_threads(), peak_gflops(DType::float32), peak_gflops(DType::bfloat16));
  std::printf("\"float32_tile\": %.1f, \"bfloat16_tile\": %.1f, ", tile_gflops(DType::float32),
              tile_gflops(DType::bfloat16));
  std::printf("\"float32_pack\": %.1f, \"bfloat16_pack\": %.1f, \"softmax\": %.2f, ",
              pack_gbytes(DType::float32), pack_gbytes(DType::bfloat16), softmax_gelements());
  std::printf("\"memory\": %.1f}\n", stream_gbytes(1 << 28));
}
