#include "ops/rotary.h"

#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

// A warp turns a row. A lane takes eight pairs of a head at a time.
template <class T>
__global__ void __launch_bounds__(block_threads) rotary_kernel(Rotary p) {
  const int lane = threadIdx.x % warp_size;
  const int64_t row = int64_t{blockIdx.x} * block_warps + threadIdx.x / warp_size;
  if (row >= p.sequences.rows.capacity) return;
  const bool live = row < rows_in_use(p.sequences.rows);
  int64_t position = 0;
  if (live) {
    const int64_t i = sequence_of(p.sequences, row);
    position = row - p.sequences.offsets[i] + (p.starts == nullptr ? 0 : p.starts[i]);
  }
  const int half = static_cast<int>(p.features) / 2, rest = static_cast<int>(p.head_dim - p.features);
  const int pair_groups = (half + group_size - 1) / group_size;
  const int groups = pair_groups + (rest + group_size - 1) / group_size;  // of a head
  const float* cosines = p.table + position * p.features;
  const float* sines = cosines + half;
  for (int i = lane; i < groups * static_cast<int>(p.num_heads); i += warp_size) {
    const int head = i / groups, group = i - head * groups;
    const int64_t head_begin = (row * p.num_heads + head) * p.head_dim;
    const T* x = static_cast<const T*>(p.x) + head_begin;
    T* y = static_cast<T*>(p.y) + head_begin;
    if (group < pair_groups) {
      const int at = group * group_size, count = half - at, used = live ? count : 0;
      float first[8], second[8], cosine[8], sine[8], turned[8];
      load8(x + at, used, first);
      load8(x + half + at, used, second);
      load8(cosines + at, used, cosine);
      load8(sines + at, used, sine);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (p.inverse) sine[j] = -sine[j];
        turned[j] = first[j] * cosine[j] - second[j] * sine[j];
        second[j] = second[j] * cosine[j] + first[j] * sine[j];
      }
      store8(y + at, count, turned);
      store8(y + half + at, count, second);
    } else {
      const int64_t at = p.features + (group - pair_groups) * group_size, count = p.head_dim - at;
      float value[8];
      load8(x + at, live ? count : 0, value);
      store8(y + at, count, value);
    }
  }
}

}  // namespace

void rotary(const Rotary& p) {
  with_dtype(p.dtype, [&](auto element) {
    launch(rotary_kernel<decltype(element)>, grid_of(ceil_div(p.sequences.rows.capacity, block_warps)),
           block_threads, 0, p);
  });
}

}  // namespace dragoman::cuda
