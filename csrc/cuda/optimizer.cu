#include "ops/optimizer.h"

#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

namespace {

// What a step needs of numbers that are in memory.
struct StepFactors {
  bool runs;  // the norm is finite
  float clip, deviation_factor;
  double mean_correction;
};

// One thread counts the step.
__global__ void begin_step_kernel(AdamW p, StepFactors* factors) {
  const float norm = *p.norm;
  factors->runs = isfinite(norm);
  if (!factors->runs) return;
  const double step = static_cast<double>(++*p.step);
  const double clip = p.max_norm / fmax(static_cast<double>(norm), 1e-12);
  factors->clip = clip < 1.0 ? static_cast<float>(clip) : 1.0f;
  factors->mean_correction = 1.0 - pow(p.beta1, step);
  factors->deviation_factor = static_cast<float>(1.0 / sqrt(1.0 - pow(p.beta2, step)));
}

__device__ float without_denormals(float x) {
  return fabsf(x) < 1.17549435e-38f ? 0.0f : x;
}

__global__ void __launch_bounds__(block_threads) adamw_kernel(AdamW p, const StepFactors* factors) {
  const int64_t index = (int64_t{blockIdx.x} * block_threads + threadIdx.x) * group_size;
  const int64_t count = p.size - index;
  if (count <= 0 || !factors->runs) return;
  const float clip = factors->clip, deviation_factor = factors->deviation_factor;
  const float beta2 = static_cast<float>(p.beta2), eps = static_cast<float>(p.eps);
  const float mean_gain = static_cast<float>(1.0 - p.beta1),
              variance_gain = static_cast<float>(1.0 - p.beta2);
  float parameter[8], gradient[8], mean[8], variance[8];
  load8(p.parameters + index, count, parameter);
  load8(p.gradients + index, count, gradient);
  load8(p.mean + index, count, mean);
  load8(p.variance + index, count, variance);
  int64_t segment = last_at_most(p.bounds, p.num_segments, index), segment_end = index;
  float step_size = 0.0f, decay = 0.0f;
#pragma unroll
  for (int j = 0; j < group_size; ++j) {
    if (j < count && index + j >= segment_end) {  // the first element, and those where a segment begins
      while (p.bounds[segment + 1] <= index + j) ++segment;
      segment_end = p.bounds[segment + 1];
      const double lr = static_cast<double>(*p.lr) * p.lr_scale[segment];
      step_size = static_cast<float>(lr / factors->mean_correction);
      decay = static_cast<float>(lr * p.weight_decay[segment]);
    }
    const float g = gradient[j] * clip;
    mean[j] = without_denormals(mean[j] + (g - mean[j]) * mean_gain);
    variance[j] = without_denormals(variance[j] * beta2 + g * g * variance_gain);
    const float decayed = parameter[j] - parameter[j] * decay;
    parameter[j] = decayed - mean[j] / (sqrtf(variance[j]) * deviation_factor + eps) * step_size;
    gradient[j] = 0.0f;
  }
  store8(p.mean + index, count, mean);
  store8(p.variance + index, count, variance);
  store8(p.parameters + index, count, parameter);
  store8(p.gradients + index, count, gradient);
  if (p.shadow != nullptr) store8(reinterpret_cast<bf16*>(p.shadow) + index, count, parameter);
}

__global__ void __launch_bounds__(block_threads) square_chunks_kernel(SquareSums p) {
  __shared__ double sums[block_threads];
  const int64_t begin = int64_t{blockIdx.x} * square_chunk, end = min(p.size, begin + square_chunk);
  double total = 0.0;
  for (int64_t at = begin + threadIdx.x * group_size; at < end; at += block_threads * group_size) {
    float value[8];
    load8(p.gradients + at, end - at, value);
#pragma unroll
    for (int j = 0; j < 8; ++j) total += static_cast<double>(value[j]) * static_cast<double>(value[j]);
  }
  total = sum_of_threads(total, sums);
  if (threadIdx.x == 0) p.sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(block_threads) norm_kernel(NormOfSums p) {
  __shared__ double sums[block_threads];
  double total = 0.0;
  for (int64_t chunk = threadIdx.x; chunk < p.count; chunk += block_threads) total += p.sums[chunk];
  total = sum_of_threads(total, sums);
  if (threadIdx.x == 0) *p.norm = static_cast<float>(sqrt(total));
}

// average + gain * (x - average)
struct MoveTowards {
  float gain;

  __device__ void operator()(int64_t, const float (&x)[2][8], float (&y)[1][8]) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[0][j] + (x[1][j] - x[0][j]) * gain;
  }
};

}  // namespace

void adamw_step(const AdamW& p) {
  const Scratch factors(sizeof(StepFactors));
  launch(begin_step_kernel, 1, 1, 0, p, factors.as<StepFactors>());
  launch(adamw_kernel, grid_of(ceil_div(p.size, block_threads * group_size)), block_threads, 0, p,
         factors.as<StepFactors>());
}

void square_sums(const SquareSums& p) {
  launch(square_chunks_kernel, grid_of(ceil_div(p.size, square_chunk)), block_threads, 0, p);
}

void norm_of_sums(const NormOfSums& p) {
  launch(norm_kernel, 1, block_threads, 0, p);
}

void moving_average(const MovingAverage& p) {
  map<float, float>({p.average, p.x}, {p.average}, all_rows(p.size), 1, MoveTowards{p.gain});
}

}  // namespace dragoman::cuda
