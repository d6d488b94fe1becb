// AdamW over flat arenas (Loshchilov & Hutter 2019), the gradient's norm and the moving average of weights.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace dragoman {

// One segment per parameter: elements [bounds[i], bounds[i + 1]) of every arena. Values that change from step
// to step are in memory, so that a recorded step can be replayed. If the norm is not finite, nothing is
// written.
struct AdamW {
  float* parameters;  // (size,)
  float* gradients;   // (size,) scaled down where their norm exceeds max_norm; zeros afterwards
  float* mean;        // (size,) first moment
  float* variance;    // (size,) second moment
  bfloat16* shadow;   // (size,) or null: the new parameters, rounded
  int64_t size;
  const int64_t* bounds;      // (num_segments + 1,) rising from 0 to size
  const float* lr_scale;      // (num_segments,)
  const float* weight_decay;  // (num_segments,)
  int64_t num_segments;
  const float* lr;    // (1,)
  const float* norm;  // (1,) of the gradients
  int64_t* step;      // (1,) steps so far; one more afterwards
  double beta1, beta2, eps;
  double max_norm;  // infinity: no clipping
};

constexpr int64_t square_chunk = 16384;

// sums = the sum of squares of each chunk, in float64.
struct SquareSums {
  const float* gradients;  // (size,)
  double* sums;            // (ceil(size / square_chunk),)
  int64_t size;
};

// norm = the root of the sum of `sums`, added in a fixed order.
struct NormOfSums {
  const double* sums;  // (count,)
  float* norm;         // (1,)
  int64_t count;
};

// average += gain * (x - average).
struct MovingAverage {
  float* average;  // (size,)
  const float* x;  // (size,)
  int64_t size;
  float gain;
};

// Updates parameters and moments, writes the shadow where given, clears the gradients and counts the step, in
// one pass. Nothing happens where the norm is not finite. The values of `bounds` are the caller's to check,
// once.
void adamw_step(const Tensor& parameters, const Tensor& gradients, const Tensor& mean, const Tensor& variance,
                const std::optional<Tensor>& shadow, const Tensor& bounds, const Tensor& lr_scale,
                const Tensor& weight_decay, const Tensor& lr, const Tensor& norm, const Tensor& step,
                double beta1, double beta2, double eps, double max_norm);
Tensor gradient_norm(const Tensor& gradients);  // ()
// Where each process has the gradients of some chunks, their norm is that of the sums of all chunks.
std::vector<double> square_sums(const Tensor& gradients);
Tensor norm_of_sums(const std::vector<double>& sums, const std::string& device);  // ()
void moving_average(const Tensor& average, const Tensor& x, double gain);

}  // namespace dragoman
