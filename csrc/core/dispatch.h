// Which kernels serve a device, and for the CPU which instruction set.
#pragma once

#include <string>
#include <vector>

#include "core/device.h"
#include "core/kernels.h"
#include "core/tensor.h"

namespace dragoman {

// The one place where a missing backend fails: ValueError naming what to install.
const Kernels& kernels(Device device);
inline const Kernels& kernels(const Tensor& tensor) {
  return kernels(tensor.device());
}

// The CPU's instruction-set variant, chosen once: the best the machine runs, or the environment's
// DRAGOMAN_ISA.
const std::string& cpu_isa();
std::vector<std::string> cpu_isas();  // those compiled in that this machine runs, best last

}  // namespace dragoman
