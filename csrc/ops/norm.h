// layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016).
// rms_norm: y = x / sqrt(mean(x^2) + eps) * weight (Zhang & Sennrich 2019): the same kernels without mean and
// bias.
#pragma once

#include <optional>
#include <tuple>

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
  int64_t rows, features;
  DType dtype;  // of the activations
  float eps;
  const int32_t* tokens;  // (1,) or null: rows from there on are zeros in every output
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
  int64_t rows, features;
  DType dtype;  // of the activations
  bool accumulate_weight, accumulate_bias;
  const int32_t* tokens;
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

}  // namespace dragoman
