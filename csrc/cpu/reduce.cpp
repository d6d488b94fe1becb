#include "ops/reduce.h"

#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

template <class T>
static void store_one(void* y, int64_t i, float value) {
  store(static_cast<T*>(y) + i, broadcast(value), FirstLanes{1});
}

template <class T, class Y>
static void over_rows(const Reduce& p) {
  const Scratch scratch(p.features * static_cast<int64_t>(sizeof(float)));
  float* total = static_cast<float*>(scratch.data);  // (features,)
  sum_rows(static_cast<const T*>(p.x), p.features, p.rows, p.features, false, total);
  each_vector(p.features, [&](int64_t i, auto part) {
    store(static_cast<Y*>(p.y) + i, load(total + i, part) * p.factor, part);
  });
}

template <class T, class Y>
static void over_features(const Reduce& p) {
  parallel_for(p.rows, row_grain(p.features), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x_row = static_cast<const T*>(p.x) + row * p.features;
      const float total = sum_of(p.features, [&](int64_t i, auto part) { return load(x_row + i, part); });
      store_one<Y>(p.y, row, total * p.factor);
    }
  });
}

// Chunks of one fixed size, then the chunks' sums in order.
template <class T, class Y>
static void over_all(const Reduce& p) {
  const int64_t size = p.rows * p.features, chunks = (size + element_grain - 1) / element_grain;
  const Scratch scratch(chunks * static_cast<int64_t>(sizeof(float)));
  float* partial = static_cast<float*>(scratch.data);  // (chunks,)
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    const int64_t first = chunk * element_grain;
    const T* x = static_cast<const T*>(p.x) + first;
    partial[chunk] =
        sum_of(min_of(element_grain, size - first), [&](int64_t i, auto part) { return load(x + i, part); });
  });
  const float total = sum_of(chunks, [&](int64_t i, auto part) { return load(partial + i, part); });
  store_one<Y>(p.y, 0, total * p.factor);
}

void reduce(const Reduce& p) {
  with_dtype(p.dtype, [&](auto from) {
    with_dtype(p.y_dtype, [&](auto to) {
      using T = decltype(from);
      using Y = decltype(to);
      switch (p.over) {
        case ReduceOver::rows:
          return over_rows<T, Y>(p);
        case ReduceOver::features:
          return over_features<T, Y>(p);
        default:
          return over_all<T, Y>(p);
      }
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
