// The table of this instruction set's kernels, for core/backend.cpp.
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

extern const Kernels table;
const Kernels table = {
#define DRAGOMAN_ENTRY(name, Params) .name = name,
    DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
        .packed_weight_size = packed_weight_size,
    .loss_chunk = loss_chunk,
};

}  // namespace dragoman::cpu::DRAGOMAN_ISA
