// Where a Tensor's memory lies.
#pragma once

#include <cstdint>
#include <string>

namespace dragoman {

struct Device {
  // `test` is a device for tests: host memory that the host may touch only through copies and kernels.
  enum class Kind : uint8_t { cpu, cuda, test };

  Kind kind = Kind::cpu;
  int16_t index = 0;  // which one of its kind; only cuda has more than one

  bool operator==(const Device&) const = default;
};

inline constexpr Device cpu_device{};
inline constexpr Device test_device{Device::Kind::test};

// Reads "cpu", "cuda", "cuda:1" and so on, or "test"; ValueError in the name of `op` otherwise.
Device parse_device(const char* op, const std::string& text);
std::string name(Device device);  // what parse_device reads

}  // namespace dragoman
