// The position of each row in its sequence.
#pragma once

#include "core/sequences.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// position (tokens,): the position of each row in its sequence, plus the sequence's start.
static inline void fill_positions(const SequencesView& sequences, const int32_t* starts, int32_t* position) {
  for (int64_t i = 0; i < sequences.num_sequences; ++i) {
    const int32_t start = starts == nullptr ? 0 : starts[i];
    for (int32_t row = 0; row < sequences.lengths[i]; ++row)
      position[sequences.offsets[i] + row] = start + row;
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
