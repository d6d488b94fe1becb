// The factors of dropout, from the random bits of core/random.h: those that the CPU draws.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/random.h"

namespace dragoman::cuda {

// Factors of the logical indices index .. index + 7: `scale` for what is kept, else 0. `dropout` comes from
// at_its_step. With threshold 0 no bits are drawn, and every factor is `scale`.
__device__ inline void keep_factors(const Dropout& dropout, int64_t index, float (&factor)[8]) {
  if (dropout.threshold == 0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) factor[i] = dropout.scale;
    return;
  }
  const uint32_t block = static_cast<uint32_t>(index / 8);
  const int skip = static_cast<int>(index % 8);
  const PhiloxBlock first = dropout_block(dropout, block);
  uint32_t words[8] = {first.word[0], first.word[1], first.word[2], first.word[3]};
  if (skip != 0) {  // moves the words down by `skip` draws; an index not constant needs local memory
    const PhiloxBlock next = dropout_block(dropout, block + 1);
#pragma unroll
    for (int i = 0; i < 4; ++i) words[4 + i] = next.word[i];
#pragma unroll
    for (int i = 0; i < 6; ++i) words[i] = skip & 4 ? words[i + 2] : words[i];
#pragma unroll
    for (int i = 0; i < 5; ++i) words[i] = skip & 2 ? words[i + 1] : words[i];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = skip & 1 ? words[i] >> 16 | words[i + 1] << 16 : words[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t draw = words[i / 2] >> (i % 2 * 16) & 0xFFFF;
    factor[i] = draw >= dropout.threshold ? dropout.scale : 0.0f;
  }
}

}  // namespace dragoman::cuda
