#include "peak.h"

#include "cpu/simd.h"

#ifdef __AVX512F__
#define DRAGOMAN_REGISTER "+v"
#else
#define DRAGOMAN_REGISTER "+x"
#endif

namespace dragoman::bench::DRAGOMAN_ISA {

using namespace cpu::DRAGOMAN_ISA;

double peak_loop(int64_t iterations) {
  constexpr int chains = 12;  // enough to hide the latency of a multiply-add, few enough for 16 registers
  Vec sum[chains] = {};
  Vec factor = broadcast(0.999f), term = broadcast(1e-3f);
  asm volatile("" : DRAGOMAN_REGISTER(factor), DRAGOMAN_REGISTER(term));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < chains; ++j) {
      sum[j] = sum[j] * factor + term;
      asm volatile("" : DRAGOMAN_REGISTER(sum[j]));  // keeps every round
    }
  }
  return 2.0 * chains * lanes * static_cast<double>(iterations);
}

}  // namespace dragoman::bench::DRAGOMAN_ISA
