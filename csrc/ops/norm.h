// layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016).
// rms_norm: y = x / sqrt(mean(x^2) + eps) * weight (Zhang & Sennrich 2019): the same kernels without mean and
// bias.
// residual_norm: either norm of residual + dropout(x), the end of a sublayer in one pass over a row.
#pragma once

#include <optional>
#include <tuple>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

struct LayerNormForward {
  const void* x;        // (rows, features)
  const float* weight;  // (features,)
  const float* bias;    // (features,) or null
  void* y;              // (rows, features)
  float* mean;          // (rows,) or null: rms_norm
  float* rstd;          // (rows,) 1 / sqrt(var + eps), the variance in two passes
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  float eps;
};

struct LayerNormBackward {
  const void* dy;       // (rows, features)
  const void* x;        // (rows, features)
  const float* weight;  // (features,)
  const float* mean;    // (rows,) or null: rms_norm
  const float* rstd;    // (rows,)
  void* dx;             // (rows, features)
  float* dweight;       // (features,) or null
  float* dbias;         // (features,) or null
  Rows rows;
  int64_t features;
  DType dtype;  // of the activations
  bool accumulate_weight, accumulate_bias;
};

struct ResidualNormForward {
  const void* x;         // (rows, features)
  const void* residual;  // (rows, features)
  void* sum;             // (rows, features) residual + dropout(x), rounded to dtype before the norm reads it
  Dropout dropout;
  LayerNormForward norm;  // of the sum
};

struct ResidualNormBackward {
  void* dx;                // (rows, features) gradient of the sum after dropout
  Dropout dropout;         // threshold > 0; without dropout layer_norm_backward is the whole backward
  LayerNormBackward norm;  // of the sum; its dx is the gradient of the residual too
};

// Returns y, mean, rstd.
std::tuple<Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& x, const Tensor& weight,
                                                      const std::optional<Tensor>& bias, double eps,
                                                      const std::optional<Sequences>& sequences);

// Returns dx; writes dweight and dbias where given.
Tensor layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                           const Tensor& rstd, const std::optional<Tensor>& dweight, bool accumulate_weight,
                           const std::optional<Tensor>& dbias, bool accumulate_bias,
                           const std::optional<Sequences>& sequences);

// Returns y, rstd.
std::tuple<Tensor, Tensor> rms_norm_forward(const Tensor& x, const Tensor& weight, double eps,
                                            const std::optional<Sequences>& sequences);

// Returns dx; writes dweight where given.
Tensor rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                         const std::optional<Tensor>& dweight, bool accumulate_weight,
                         const std::optional<Sequences>& sequences);

// Returns y, the sum, mean (absent unless centred: rms_norm has none) and rstd.
std::tuple<Tensor, Tensor, std::optional<Tensor>, Tensor> residual_norm_forward(
    const Tensor& x, const Tensor& residual, const Tensor& weight, const std::optional<Tensor>& bias,
    const Dropout& dropout, double eps, bool centred, const std::optional<Sequences>& sequences);

// Returns dx and dresidual, one tensor without dropout; writes dweight and dbias where given.
std::tuple<Tensor, Tensor> residual_norm_backward(
    const Tensor& dy, const Tensor& sum, const Tensor& weight, const std::optional<Tensor>& mean,
    const Tensor& rstd, const Dropout& dropout, const std::optional<Tensor>& dweight, bool accumulate_weight,
    const std::optional<Tensor>& dbias, bool accumulate_bias, const std::optional<Sequences>& sequences);

}  // namespace dragoman
