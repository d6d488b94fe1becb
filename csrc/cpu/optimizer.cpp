#include "ops/optimizer.h"

#include "core/storage.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// The largest segment i with bounds[i] <= element.
static int64_t segment_of(const AdamW& p, int64_t element) {
  int64_t low = 0, high = p.num_segments - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (p.bounds[middle] <= element) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// The factor on gradients of this norm, at most 1.
static float clip_factor(double norm, double max_norm) {
  const double factor = max_norm / (norm < 1e-12 ? 1e-12 : norm);
  return factor < 1.0 ? static_cast<float>(factor) : 1.0f;
}

void adamw_step(const AdamW& p) {
  if (!__builtin_isfinite(*p.norm)) return;
  const double step = static_cast<double>(++*p.step);
  const double mean_correction = 1.0 - __builtin_pow(p.beta1, step);
  const double variance_correction = 1.0 - __builtin_pow(p.beta2, step);
  const float clip = clip_factor(*p.norm, p.max_norm);
  const float beta2 = static_cast<float>(p.beta2), eps = static_cast<float>(p.eps);
  const float mean_gain = static_cast<float>(1.0 - p.beta1),
              variance_gain = static_cast<float>(1.0 - p.beta2);
  const float deviation_factor = static_cast<float>(1.0 / __builtin_sqrt(variance_correction));
  parallel_for(p.size, element_grain, [&](int64_t begin, int64_t end) {
    for (int64_t segment = segment_of(p, begin); begin < end; ++segment) {
      const int64_t segment_end = min_of(end, p.bounds[segment + 1]);
      const double lr = static_cast<double>(*p.lr) * p.lr_scale[segment];
      const float step_size = static_cast<float>(lr / mean_correction);
      const float decay = static_cast<float>(lr * p.weight_decay[segment]);
      each_vector(segment_end - begin, [&](int64_t i, auto part) {
        const int64_t at = begin + i;
        const Vec g = load(p.gradients + at, part) * clip;
        const Vec old_mean = load(p.mean + at, part);
        const Vec mean = without_denormals(old_mean + (g - old_mean) * mean_gain);
        const Vec variance = without_denormals(load(p.variance + at, part) * beta2 + g * g * variance_gain);
        const Vec parameter = load(p.parameters + at, part);
        const Vec decayed = parameter - parameter * decay;
        store(p.mean + at, mean, part);
        store(p.variance + at, variance, part);
        const Vec updated = decayed - mean / (vsqrt(variance) * deviation_factor + eps) * step_size;
        store(p.parameters + at, updated, part);
        if (p.shadow != nullptr) store(p.shadow + at, updated, part);
        store(p.gradients + at, Vec{}, part);
      });
      begin = max_of(begin, segment_end);
    }
  });
}

typedef float HalfVec __attribute__((vector_size(vector_bytes / 2), aligned(4), may_alias));
typedef double DoubleVec __attribute__((vector_size(vector_bytes)));

static double sum_of_squares(const float* x, int64_t size) {
  constexpr int64_t half = lanes / 2;
  DoubleVec sum[2] = {};
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (int64_t j = 0; j < 2; ++j) {
      const DoubleVec v =
          __builtin_convertvector(*reinterpret_cast<const HalfVec*>(x + i + j * half), DoubleVec);
      sum[j] += v * v;
    }
  }
  double total = 0.0;
  for (int64_t lane = 0; lane < half; ++lane) total += sum[0][lane] + sum[1][lane];
  for (; i < size; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

void square_sums(const SquareSums& p) {
  parallel_for(p.size, square_chunk, [&](int64_t begin, int64_t end) {
    p.sums[begin / square_chunk] = sum_of_squares(p.gradients + begin, end - begin);
  });
}

void norm_of_sums(const NormOfSums& p) {
  double total = 0.0;
  for (int64_t chunk = 0; chunk < p.count; ++chunk) total += p.sums[chunk];
  *p.norm = static_cast<float>(__builtin_sqrt(total));
}

void moving_average(const MovingAverage& p) {
  parallel_for(p.size, element_grain, [&](int64_t begin, int64_t end) {
    each_vector(end - begin, [&](int64_t i, auto part) {
      const int64_t at = begin + i;
      const Vec average = load(p.average + at, part);
      store(p.average + at, average + (load(p.x + at, part) - average) * p.gain, part);
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
