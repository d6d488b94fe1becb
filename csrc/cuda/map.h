// Element-wise kernels: outputs = f(inputs), eight elements a thread; zeros for rows that are not in use.
#pragma once

#include "cuda/launch.h"
#include "cuda/rows.h"

namespace dragoman::cuda {

template <class From, class To, int inputs, int outputs>
struct MapBuffers {
  const From* in[inputs];  // each (rows, features)
  To* out[outputs];        // each (rows, features), may be an input
  Rows rows;
  int64_t features;
};

// f(index, x, y) makes elements index .. index + 7 of every output from those of every input. Rows that are
// not in use become zeros.
template <class From, class To, int inputs, int outputs, class F>
__global__ void __launch_bounds__(block_threads) map_kernel(MapBuffers<From, To, inputs, outputs> p, F f) {
  const int64_t index = (int64_t{blockIdx.x} * block_threads + threadIdx.x) * group_size;
  const int64_t count = p.rows.capacity * p.features - index;
  if (count <= 0) return;
  const int64_t live = rows_in_use(p.rows) * p.features - index;
  float x[inputs][8], y[outputs][8];
#pragma unroll
  for (int k = 0; k < inputs; ++k) load8(p.in[k] + index, live, x[k]);
  f(index, x, y);
#pragma unroll
  for (int k = 0; k < outputs; ++k) {
#pragma unroll
    for (int j = 0; j < 8; ++j) y[k][j] = j < live ? y[k][j] : 0.0f;
    store8(p.out[k] + index, count, y[k]);
  }
}

template <class From, class To, int inputs, int outputs, class F>
void map(const void* const (&in)[inputs], void* const (&out)[outputs], const Rows& rows, int64_t features,
         F f) {
  MapBuffers<From, To, inputs, outputs> buffers = {.in = {}, .out = {}, .rows = rows, .features = features};
  for (int k = 0; k < inputs; ++k) buffers.in[k] = static_cast<const From*>(in[k]);
  for (int k = 0; k < outputs; ++k) buffers.out[k] = static_cast<To*>(out[k]);
  launch(map_kernel<From, To, inputs, outputs, F>,
         grid_of(ceil_div(rows.capacity * features, block_threads * group_size)), block_threads, 0, buffers,
         f);
}

// The same for buffers of one dtype.
template <int inputs, int outputs, class F>
void map(DType dtype, const void* const (&in)[inputs], void* const (&out)[outputs], const Rows& rows,
         int64_t features, F f) {
  with_dtype(dtype,
             [&](auto element) { map<decltype(element), decltype(element)>(in, out, rows, features, f); });
}

// y = factor * x
struct Scale {
  float factor;

  __device__ void operator()(int64_t, const float (&x)[1][8], float (&y)[1][8]) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[0][j] * factor;
  }
};

template <class T>
__global__ void __launch_bounds__(block_threads) clear_tail_kernel(T* y, Rows rows, int64_t features) {
  zero_tail(y, rows, features);
}

// Writes zeros to the rows of y (capacity, features) that are not in use.
inline void clear_tail(void* y, DType dtype, const Rows& rows, int64_t features) {
  if (rows.tokens == nullptr && rows.bound == rows.capacity) return;
  constexpr int64_t maximum_blocks = 264, block_elements = 4096;
  const int64_t blocks = min(maximum_blocks, ceil_div(rows.capacity * features, block_elements));
  with_dtype(dtype, [&](auto element) {
    using T = decltype(element);
    launch(clear_tail_kernel<T>, grid_of(blocks), dim3(block_threads), 0, static_cast<T*>(y), rows, features);
  });
}

}  // namespace dragoman::cuda
