// Element types of a Tensor. Activations are float32 or bfloat16; the other types hold ids, counts, flags and
// stored weights.
#pragma once

#include <cstdint>

namespace dragoman {

// The upper half of a float32. Storage only: arithmetic runs in float32.
struct bfloat16 {
  uint16_t bits;
};

enum class DType : uint8_t { float32, bfloat16, int32, int64, boolean, int8, uint8 };

constexpr int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::int64:
      return 8;
    case DType::bfloat16:
      return 2;
    default:
      return 1;
  }
}

constexpr const char* name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::bfloat16:
      return "bfloat16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::boolean:
      return "bool";
    case DType::int8:
      return "int8";
    default:
      return "uint8";
  }
}

}  // namespace dragoman
