// The arithmetic peak of one thread, per instruction set.
#pragma once

#include <cstdint>

namespace dragoman::bench {

// Runs `iterations` rounds of independent float32 multiply-adds and returns how many operations those were.
using PeakLoop = double (*)(int64_t iterations);

namespace baseline {
double peak_loop(int64_t iterations);
}
namespace avx512 {
double peak_loop(int64_t iterations);
}

}  // namespace dragoman::bench
