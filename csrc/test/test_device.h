// The backend of the device `test`, by which tests prove what a device needs without one.
//
// Its kernels are the CPU's. Its memory is the host's, but the host cannot read or write it outside kernels
// and copies: it is protected, and a line on stderr says so before the process ends. New memory holds NaN.
#pragma once

#include <cstdint>
#include <string>

#include "core/backend.h"

namespace dragoman::test {

extern const Memory memory;
extern const Kernels kernels;

// Calls since the process began.
struct Counts {
  int64_t allocations;
  int64_t uploads;    // copies from the host
  int64_t downloads;  // copies to the host
  int64_t kernels;
};
Counts counts();

void fail_allocation(int64_t k);            // the k-th allocation from now on fails, once; 0: none
void fail_kernel(const std::string& name);  // the next call of this kernel fails, once; "": none

}  // namespace dragoman::test
