// The activations and their derivatives.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/dropout_mask.h"
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

// Calls body with the activation as a type, whose `value` is a constant: one choice for many elements.
template <class Body>
__device__ inline void with_activation(Activation activation, const Body& body) {
#define DRAGOMAN_CASE(name) \
  case Activation::name:    \
    return body(std::integral_constant<Activation, Activation::name>());
  switch (activation) {
    DRAGOMAN_CASE(relu)
    DRAGOMAN_CASE(gelu)
    DRAGOMAN_CASE(gelu_tanh)
    DRAGOMAN_CASE(silu)
    DRAGOMAN_CASE(tanh)
    DRAGOMAN_CASE(sigmoid)
    default:
      return body(std::integral_constant<Activation, Activation::none>());
  }
#undef DRAGOMAN_CASE
}

// y = dropout(activation(x))
struct Finish {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[1][8], float (&y)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) y[0][j] = activate<decltype(chosen)::value>(x[0][j]) * factor[j];
    });
  }
};

// dx of inputs dy and x: dy times the derivative of dropout(activation(x)).
struct TimesSlope {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[2][8], float (&dx)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) dx[0][j] = x[0][j] * factor[j] * slope<decltype(chosen)::value>(x[1][j]);
    });
  }
};

}  // namespace dragoman::cuda
