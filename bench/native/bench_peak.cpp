// bench_peak [BYTES ...]: the highest rates of this machine on num_threads() threads, and those of reading
// buffers of so many bytes, as a line of JSON for the scripts in bench.
#include <cstdio>
#include <cstdlib>

#include "core/backend.h"
#include "core/parallel.h"
#include "peak.h"

int main(int argc, char** argv) {
  using namespace dragoman;
  using namespace dragoman::bench;
  std::printf("{\"isa\": \"%s\", \"threads\": %d, \"float32\": %.1f, \"bfloat16\": %.1f, \"int8\": %.1f, ",
              cpu_isa().c_str(), num_threads(), peak_gflops(DType::float32), peak_gflops(DType::bfloat16),
              peak_gflops(DType::int8));
  std::printf("\"float32_tile\": %.1f, \"bfloat16_tile\": %.1f, ", tile_gflops(DType::float32),
              tile_gflops(DType::bfloat16));
  std::printf("\"float32_pack\": %.1f, \"bfloat16_pack\": %.1f, \"softmax\": %.2f, ",
              pack_gbytes(DType::float32), pack_gbytes(DType::bfloat16), softmax_gelements());
  std::printf("\"memory\": %.1f, \"read\": {", stream_gbytes(1 << 28));
  for (int i = 1; i < argc; ++i) {
    std::printf("%s\"%s\": %.1f", i > 1 ? ", " : "", argv[i], read_gbytes(std::atoll(argv[i])));
  }
  std::printf("}}\n");
}
