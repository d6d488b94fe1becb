#include "core/device.h"

#include <algorithm>
#include <cstdlib>

#include "core/check.h"

namespace dragoman {

Device parse_device(const char* op, const std::string& text) {
  if (text == "cpu") return cpu_device;
  if (text == "test") return test_device;
  if (text == "cuda") return {Device::Kind::cuda};
  const std::string digits = text.starts_with("cuda:") ? text.substr(5) : "";
  const bool is_index =
      !digits.empty() && digits.size() <= 3 &&
      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  CHECK(is_index, op, ": device must be cpu, cuda or cuda: with an index, got '", text, "'");
  return {Device::Kind::cuda, static_cast<int16_t>(std::atoi(digits.c_str()))};
}

std::string name(Device device) {
  switch (device.kind) {
    case Device::Kind::cpu:
      return "cpu";
    case Device::Kind::test:
      return "test";
    default:
      return device.index == 0 ? "cuda" : concat("cuda:", device.index);
  }
}

}  // namespace dragoman
