// Which sequence a row of a packed batch belongs to.
#pragma once

#include "core/sequences.h"

namespace dragoman::cuda {

// The sequence that holds `row`, which must be in use: the last one that begins at or before it.
__device__ inline int64_t sequence_of(const SequencesView& sequences, int64_t row) {
  int64_t low = 0, high = sequences.num_sequences - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (sequences.offsets[middle] <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace dragoman::cuda
