#include "ops/activation.h"

#include "cpu/activation.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void activation_forward(const ActivationForward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_elements(p.rows, p.features, static_cast<T*>(p.y), [&](int64_t begin, int64_t end) {
      const T* x = static_cast<const T*>(p.x) + begin;
      T* y = static_cast<T*>(p.y) + begin;
      each_vector(end - begin, [&](int64_t i, auto part) {
        store(y + i, activate(load(x + i, part), p.activation), part);
      });
    });
  });
}

void activation_backward(const ActivationBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_elements(p.rows, p.features, static_cast<T*>(p.dx), [&](int64_t begin, int64_t end) {
      const T* x = static_cast<const T*>(p.x) + begin;
      const T* dy = static_cast<const T*>(p.dy) + begin;
      T* dx = static_cast<T*>(p.dx) + begin;
      each_vector(end - begin, [&](int64_t i, auto part) {
        store(dx + i, load(dy + i, part) * slope(load(x + i, part), p.activation), part);
      });
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
