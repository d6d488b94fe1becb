#include "ops/softmax.h"

#include "core/storage.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

template <class T>
static void forward(const SoftmaxForward& p) {
  const int64_t exps_row = p.features * static_cast<int64_t>(sizeof(float));
  const Scratch scratch(max_threads() * exps_row);
  parallel_for(p.rows, row_grain(p.features), [&](int64_t begin, int64_t end) {
    float* exps = reinterpret_cast<float*>(static_cast<char*>(scratch.data) + thread_index() * exps_row);
    for (int64_t row = begin; row < end; ++row) {
      const T* x_row = static_cast<const T*>(p.x) + row * p.features;
      T* y_row = static_cast<T*>(p.y) + row * p.features;
      const float maximum =
          largest_of(p.features, [&](int64_t i, auto part) { return load(x_row + i, part); });
      const float sum = sum_of(p.features, [&](int64_t i, auto part) {
        const Vec e = vexp(load(x_row + i, part) - maximum);
        store(exps + i, e, part);
        return e;
      });
      each_vector(p.features,
                  [&](int64_t i, auto part) { store(y_row + i, load(exps + i, part) / sum, part); });
    }
  });
}

void softmax_forward(const SoftmaxForward& p) {
  with_dtype(p.dtype, [&](auto element) { forward<decltype(element)>(p); });
}

void softmax_backward(const SoftmaxBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(p.rows, row_grain(p.features), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* dy_row = static_cast<const T*>(p.dy) + row * p.features;
        const T* y_row = static_cast<const T*>(p.y) + row * p.features;
        T* dx_row = static_cast<T*>(p.dx) + row * p.features;
        const float sum = sum_of(
            p.features, [&](int64_t i, auto part) { return load(dy_row + i, part) * load(y_row + i, part); });
        each_vector(p.features, [&](int64_t i, auto part) {
          store(dx_row + i, load(y_row + i, part) * (load(dy_row + i, part) - sum), part);
        });
      }
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
