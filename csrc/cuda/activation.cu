#include "cuda/activation.h"

#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

namespace {

// y = dropout(activation(a) * b)
struct Gate {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[2][8], float (&y)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) y[0][j] = activate<decltype(chosen)::value>(x[0][j]) * x[1][j] * factor[j];
    });
  }
};

// da, db of inputs dy, a, b
struct GateBackwardOf {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[3][8], float (&d)[2][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float dy = x[0][j] * factor[j];
        d[0][j] = dy * x[2][j] * slope<decltype(chosen)::value>(x[1][j]);
        d[1][j] = dy * activate<decltype(chosen)::value>(x[1][j]);
      }
    });
  }
};

}  // namespace

void activation_forward(const ActivationForward& p) {
  map(p.dtype, {p.x}, {p.y}, p.rows, p.features, Finish{p.activation, {}});
}

void activation_backward(const ActivationBackward& p) {
  map(p.dtype, {p.dy, p.x}, {p.dx}, p.rows, p.features, TimesSlope{p.activation, {}});
}

void gate_forward(const GateForward& p) {
  map(p.dtype, {p.a, p.b}, {p.y}, p.rows, p.features, Gate{p.activation, p.dropout});
}

void gate_backward(const GateBackward& p) {
  map(p.dtype, {p.dy, p.a, p.b}, {p.da, p.db}, p.rows, p.features, GateBackwardOf{p.activation, p.dropout});
}

}  // namespace dragoman::cuda
