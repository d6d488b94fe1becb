// What one thread does at most, per instruction set.
#pragma once

#include <cstdint>

namespace dragoman::bench {

struct PeakLoops {
  // Each runs `iterations` rounds of independent multiply-adds and returns how many operations those were.
  double (*float32)(int64_t iterations);
  double (*bfloat16)(int64_t iterations);  // products of bfloat16, added up in float32
  double (*int8)(int64_t iterations);      // products of bytes, added up in int32
  // As many as `iterations` register tiles of the matrix product make, their operands in the nearest caches.
  double (*float32_tile)(int64_t iterations);
  double (*bfloat16_tile)(int64_t iterations);
  // Both return how many bytes of a matrix they copied, from L2 to L2, as the product's tile reads it.
  double (*float32_pack)(int64_t iterations);
  double (*bfloat16_pack)(int64_t iterations);
  double (*softmax)(int64_t iterations);                // returns how many elements it went over, in L1
  void (*add)(const float* a, float* b, int64_t size);  // b += a
  void (*read)(const float* a, int64_t size);
};

namespace baseline {
extern const PeakLoops peak_loops;
}
namespace avx2 {
extern const PeakLoops peak_loops;
}
namespace avx512 {
extern const PeakLoops peak_loops;
}
namespace avx512_bf16 {
extern const PeakLoops peak_loops;
}
namespace avx512_amx {
extern const PeakLoops peak_loops;
}

}  // namespace dragoman::bench
