// AdamW over flat arenas (Loshchilov & Hutter 2019) and the gradient's norm.
#pragma once

#include <optional>

#include "core/tensor.h"

namespace dragoman {

// One segment per parameter: elements [bounds[i], bounds[i + 1]) of every arena.
struct AdamW {
  float* parameters;  // (size,)
  float* gradients;   // (size,) zeros afterwards
  float* mean;        // (size,) first moment
  float* variance;    // (size,) second moment
  bfloat16* shadow;   // (size,) or null: the new parameters, rounded
  int64_t size;
  const int64_t* bounds;      // (num_segments + 1,)
  const float* lr_scale;      // (num_segments,)
  const float* weight_decay;  // (num_segments,)
  int64_t num_segments;
  double lr, beta1, beta2, eps;
  int64_t step;          // 1 for the first step
  float gradient_scale;  // what every gradient is multiplied by first: the clipping factor
};

// sqrt of the sum of squares, added in float64 over chunks of a fixed size.
struct GradientNorm {
  const float* gradients;  // (size,)
  float* norm;             // (1,)
  int64_t size;
};

// Updates parameters and moments, writes the shadow where given, and clears the gradients, in one pass.
void adamw_step(const Tensor& parameters, const Tensor& gradients, const Tensor& mean, const Tensor& variance,
                const std::optional<Tensor>& shadow, const Tensor& bounds, const Tensor& lr_scale,
                const Tensor& weight_decay, double lr, double beta1, double beta2, double eps, int64_t step,
                double gradient_scale);
Tensor gradient_norm(const Tensor& gradients);  // ()

}  // namespace dragoman
