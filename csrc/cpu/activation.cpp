#include "ops/activation.h"

#include "cpu/activation.h"
#include "cpu/dropout_mask.h"
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

void gate_forward(const GateForward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* a = static_cast<const T*>(p.a);
    const T* b = static_cast<const T*>(p.b);
    T* y = static_cast<T*>(p.y);
    parallel_elements(p.rows, p.features, y, [&](int64_t begin, int64_t end) {
      each_masked_vector(p.dropout, begin, end, [&](int64_t i, Vec factor, auto part) {
        store(y + i, activate(load(a + i, part), p.activation) * load(b + i, part) * factor, part);
      });
    });
  });
}

void gate_backward(const GateBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* dy = static_cast<const T*>(p.dy);
    const T* a = static_cast<const T*>(p.a);
    const T* b = static_cast<const T*>(p.b);
    T* da = static_cast<T*>(p.da);
    T* db = static_cast<T*>(p.db);
    parallel_elements(p.rows, p.features, da, [&](int64_t begin, int64_t end) {
      each_masked_vector(p.dropout, begin, end, [&](int64_t i, Vec factor, auto part) {
        const Vec at = load(a + i, part), d = load(dy + i, part) * factor;
        store(da + i, d * load(b + i, part) * slope(at, p.activation), part);
        store(db + i, d * activate(at, p.activation), part);
      });
    });
    const int64_t first = rows_in_use(p.rows) * p.features;
    zero(db + first, p.rows.capacity * p.features - first);
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
