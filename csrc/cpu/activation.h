// The activations of a vector, and their derivatives.
#pragma once

#include "cpu/isa/simd.h"
#include "ops/activation.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static inline Vec activate(Vec x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return vmax(Vec{}, x);
    case Activation::gelu:
      return x * normal(x).cdf;
    default:
      return x;
  }
}

// The derivative of the activation at x. ReLU's is the same at y = relu(x). GELU's is Phi(x) + x phi(x).
static inline Vec slope(Vec x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return x > 0.0f ? broadcast(1.0f) : Vec{};
    case Activation::gelu: {
      const Normal at = normal(x);
      return at.cdf + x * at.pdf;
    }
    default:
      return broadcast(1.0f);
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
