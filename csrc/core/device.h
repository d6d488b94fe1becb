// Where a Tensor lives.
#pragma once

#include <cstdint>

namespace dragoman {

enum class Device : uint8_t { cpu, cuda };

constexpr const char* name(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

}  // namespace dragoman
