// The activations of a vector, and their derivatives.
#pragma once

#include "cpu/isa/simd.h"
#include "ops/activation.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// 1 / (1 + e^-x), from e^-|x|, which never overflows.
static inline Vec sigmoid(Vec x) {
  const Vec e = vexp(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : broadcast(1.0f)) / (1.0f + e);
}

// tanh(x) to about 2 ulp: near 0 by a polynomial (the coefficients are those of Cephes' tanhf), else by
// e^-2|x|.
static inline Vec vtanh(Vec x) {
  const Vec a = x < 0.0f ? -x : x;
  const Vec e = vexp(-2.0f * a);
  const Vec far = (1.0f - e) / (1.0f + e);
  const Vec z = x * x;
  Vec p = -5.70498872745e-3f * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  return a < 0.625f ? p * z * x + x : (x < 0.0f ? -far : far);
}

// The tanh form of GELU: x (1 + tanh(inner)) / 2, with inner = sqrt(2 / pi) (x + 0.044715 x^3). Beyond 10 the
// tanh is 1 in float32, and a bounded x cannot overflow.
constexpr float gelu_scale = 0.797884561f, gelu_cubic = 0.044715f;

static inline Vec gelu_tanh(Vec bounded) {
  return vtanh(gelu_scale * bounded * (1.0f + gelu_cubic * bounded * bounded));
}

static inline Vec bounded(Vec x) {
  return vmax(broadcast(-10.0f), vmin(broadcast(10.0f), x));
}

// What products' inner loops seldom need stands apart, so that it takes no registers there.
static __attribute__((noinline)) Vec activate_smooth(Vec x, Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return x * normal(x).cdf;
    case Activation::gelu_tanh:
      return 0.5f * x * (1.0f + gelu_tanh(bounded(x)));
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return vtanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

static inline Vec activate(Vec x, Activation activation) {
  if (activation == Activation::none) return x;
  if (activation == Activation::relu) return vmax(Vec{}, x);
  return activate_smooth(x, activation);
}

static __attribute__((noinline)) Vec slope_smooth(Vec x, Activation activation) {
  switch (activation) {
    case Activation::gelu: {
      const Normal at = normal(x);
      return at.cdf + x * at.pdf;
    }
    case Activation::gelu_tanh: {
      const Vec near = bounded(x), t = gelu_tanh(near);
      const Vec inner_slope = gelu_scale * (1.0f + 3.0f * gelu_cubic * near * near);
      return 0.5f * (1.0f + t) + 0.5f * near * (1.0f - t * t) * inner_slope;
    }
    case Activation::silu: {
      const Vec s = sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::tanh: {
      const Vec t = vtanh(x);
      return 1.0f - t * t;
    }
    case Activation::sigmoid: {
      const Vec s = sigmoid(x);
      return s * (1.0f - s);
    }
    default:
      return broadcast(1.0f);
  }
}

// The derivative of the activation at x. ReLU's is the same at y = relu(x). GELU's is Phi(x) + x phi(x).
static inline Vec slope(Vec x, Activation activation) {
  if (activation == Activation::none) return broadcast(1.0f);
  if (activation == Activation::relu) return x > 0.0f ? broadcast(1.0f) : Vec{};
  return slope_smooth(x, activation);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
