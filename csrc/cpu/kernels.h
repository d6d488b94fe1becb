// Declares every CPU kernel in the namespace of the instruction set being compiled.
//
// Code under csrc/cpu is compiled once for each instruction set. These files use no std:: templates, and
// every helper that they share is `static inline`: otherwise the linker could replace one variant's code by
// another's.
#pragma once

#include "core/backend.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

#define DRAGOMAN_DECLARE(name, Params) void name(const Params& p);
DRAGOMAN_KERNELS(DRAGOMAN_DECLARE)
#undef DRAGOMAN_DECLARE
int64_t packed_weight_size(const PackWeight& p);
LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType dtype);

}  // namespace dragoman::cpu::DRAGOMAN_ISA
