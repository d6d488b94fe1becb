#include "ops/elementwise.h"

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/vector.h"

namespace dragoman::cuda {

namespace {

constexpr int block_threads = 256;

// Calls value(i, count, result) for eight elements from i on, of which `count` exist, and writes them to y.
template <class T, class Value>
__global__ void map_elements(T* y, int64_t size, Value value) {
  const int64_t i = (int64_t{blockIdx.x} * block_threads + threadIdx.x) * 8;
  if (i >= size) return;
  float result[8];
  value(i, size - i, result);
  store8(y + i, size - i, result);
}

template <class T, class Value>
void map(T* y, int64_t size, const Value& value) {
  launch(map_elements<T, Value>, grid_of(ceil_div(size, block_threads * 8)), dim3(block_threads), 0, y, size,
         value);
}

template <class T>
struct Accumulated {
  const T *x, *y;
  float factor;
  bool accumulate;

  __device__ void operator()(int64_t i, int64_t count, float (&result)[8]) const {
    float old[8] = {};
    load8(x + i, count, result);
    if (accumulate) load8(y + i, count, old);
#pragma unroll
    for (int k = 0; k < 8; ++k) result[k] = accumulate ? old[k] + result[k] * factor : result[k] * factor;
  }
};

template <class From>
struct Same {
  const From* x;

  __device__ void operator()(int64_t i, int64_t count, float (&result)[8]) const {
    load8(x + i, count, result);
  }
};

}  // namespace

void accumulate(const Accumulate& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    T* y = static_cast<T*>(p.y);
    map(y, p.size, Accumulated<T>{static_cast<const T*>(p.x), y, p.factor, p.accumulate});
  });
}

void cast(const Cast& p) {
  with_dtype(p.from, [&](auto from) {
    with_dtype(p.to, [&](auto to) {
      using From = decltype(from);
      map(static_cast<decltype(to)*>(p.y), p.size, Same<From>{static_cast<const From*>(p.x)});
    });
  });
}

}  // namespace dragoman::cuda
