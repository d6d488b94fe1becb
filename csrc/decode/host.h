// The values of a tensor on any device, copied to the host.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace dragoman {

template <class T>
std::vector<T> to_host(const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.numel()));
  tensor.copy_to_host(values.data());
  return values;
}

}  // namespace dragoman
