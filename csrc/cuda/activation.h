// The activations of a number, and their derivatives.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "ops/activation.h"

namespace dragoman::cuda {

__device__ inline float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

// The distribution function of the normal distribution, and its density.
__device__ inline float normal_cdf(float x) {
  return 0.5f * erfcf(x * -0.707106781f);
}

__device__ inline float normal_pdf(float x) {
  return 0.398942280f * expf(-0.5f * x * x);
}

// The tanh form of GELU: x (1 + tanh(inner)) / 2, with inner = sqrt(2 / pi) (x + 0.044715 x^3). Beyond 10 the
// tanh is 1 in float32, and a bounded x cannot overflow.
constexpr float gelu_scale = 0.797884561f, gelu_cubic = 0.044715f;

__device__ inline float bounded(float x) {
  return fmaxf(-10.0f, fminf(10.0f, x));
}

__device__ inline float gelu_tanh(float bounded) {
  return tanhf(gelu_scale * bounded * (1.0f + gelu_cubic * bounded * bounded));
}

template <Activation activation>
__device__ inline float activate(float x) {
  switch (activation) {
    case Activation::relu:
      return 0.0f > x ? 0.0f : x;  // NaN stays
    case Activation::gelu:
      return x * normal_cdf(x);
    case Activation::gelu_tanh:
      return 0.5f * x * (1.0f + gelu_tanh(bounded(x)));
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return tanhf(x);
    case Activation::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

// The derivative of the activation at x. ReLU's is the same at y = relu(x). GELU's is Phi(x) + x phi(x).
template <Activation activation>
__device__ inline float slope(float x) {
  switch (activation) {
    case Activation::relu:
      return x > 0.0f ? 1.0f : 0.0f;
    case Activation::gelu:
      return normal_cdf(x) + x * normal_pdf(x);
    case Activation::gelu_tanh: {
      const float near = bounded(x), t = gelu_tanh(near);
      const float inner_slope = gelu_scale * (1.0f + 3.0f * gelu_cubic * near * near);
      return 0.5f * (1.0f + t) + 0.5f * near * (1.0f - t * t) * inner_slope;
    }
    case Activation::silu: {
      const float s = sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::tanh: {
      const float t = tanhf(x);
      return 1.0f - t * t;
    }
    case Activation::sigmoid: {
      const float s = sigmoid(x);
      return s * (1.0f - s);
    }
    default:
      return 1.0f;
  }
}

template <Activation activation>
using ActivationConstant = std::integral_constant<Activation, activation>;

// Calls body with the activation as a type, whose `value` is a constant: one choice for many elements.
template <class Body>
__device__ inline void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::relu:
      return body(ActivationConstant<Activation::relu>());
    case Activation::gelu:
      return body(ActivationConstant<Activation::gelu>());
    case Activation::gelu_tanh:
      return body(ActivationConstant<Activation::gelu_tanh>());
    case Activation::silu:
      return body(ActivationConstant<Activation::silu>());
    case Activation::tanh:
      return body(ActivationConstant<Activation::tanh>());
    case Activation::sigmoid:
      return body(ActivationConstant<Activation::sigmoid>());
    default:
      return body(ActivationConstant<Activation::none>());
  }
}

}  // namespace dragoman::cuda
