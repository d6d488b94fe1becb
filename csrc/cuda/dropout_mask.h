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
  PhiloxBlock words = dropout_block(dropout, block);
  if (skip == 0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      factor[i] = draw_of(words, i) >= dropout.threshold ? dropout.scale : 0.0f;
    }
    return;
  }
  const PhiloxBlock next = dropout_block(dropout, block + 1);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int lane = skip + i;
    const uint32_t draw = lane < 8 ? draw_of(words, lane) : draw_of(next, lane - 8);
    factor[i] = draw >= dropout.threshold ? dropout.scale : 0.0f;
  }
}

// The factor of one index.
__device__ inline float keep_factor(const Dropout& dropout, int64_t index) {
  if (dropout.threshold == 0) return dropout.scale;
  const PhiloxBlock words = dropout_block(dropout, static_cast<uint32_t>(index / 8));
  return draw_of(words, static_cast<int>(index % 8)) >= dropout.threshold ? dropout.scale : 0.0f;
}

}  // namespace dragoman::cuda
