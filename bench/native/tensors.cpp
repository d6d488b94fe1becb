#include "tensors.h"

#include <cstring>

namespace dragoman::bench {

namespace {

uint32_t next_random() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state >> 33);
}

bfloat16 truncated(float element) {
  uint32_t bits;
  std::memcpy(&bits, &element, sizeof bits);
  return {static_cast<uint16_t>(bits >> 16)};
}

float widened(bfloat16 element) {
  const uint32_t bits = static_cast<uint32_t>(element.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

}  // namespace

Tensor random_tensor(const Shape& shape, DType dtype) {
  const Tensor tensor = Tensor::empty(shape, dtype);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const uint32_t bits = next_random();
    const float element = static_cast<float>(bits) * 0x1p-30f - 1.0f;
    switch (dtype) {
      case DType::float32:
        tensor.data<float>()[i] = element;
        break;
      case DType::bfloat16:
        tensor.data<bfloat16>()[i] = truncated(element);
        break;
      default:
        tensor.data<uint8_t>()[i] = static_cast<uint8_t>(bits);
    }
  }
  return tensor;
}

Tensor random_ids(int64_t count, int64_t below) {
  const Tensor ids = Tensor::empty({count}, DType::int32);
  for (int64_t i = 0; i < count; ++i) ids.data<int32_t>()[i] = static_cast<int32_t>(next_random() % below);
  return ids;
}

double value(const Tensor& tensor, int64_t element) {
  switch (tensor.dtype()) {
    case DType::float32:
      return tensor.data<float>()[element];
    case DType::bfloat16:
      return widened(tensor.data<bfloat16>()[element]);
    case DType::int32:
      return tensor.data<int32_t>()[element];
    default:
      return tensor.data<int8_t>()[element];
  }
}

double factor_of(const Dropout& dropout, int64_t element) {
  const PhiloxBlock block = dropout_block(dropout, static_cast<uint32_t>(element / 8));
  return draw_of(block, element % 8) >= dropout.threshold ? dropout.scale : 0.0;
}

}  // namespace dragoman::bench
