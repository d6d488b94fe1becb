#include "ops/elementwise.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// y[i] = value(i, part) for every element.
template <class T, class Value>
static inline void map_elements(T* y, int64_t size, const Value& value) {
  parallel_for(size, element_grain, [&](int64_t begin, int64_t end) {
    each_vector(end - begin,
                [&](int64_t i, auto part) { store(y + begin + i, value(begin + i, part), part); });
  });
}

void add(const Add& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* a = static_cast<const T*>(p.a);
    const T* b = static_cast<const T*>(p.b);
    map_elements(static_cast<T*>(p.y), p.size,
                 [&](int64_t i, auto part) { return load(a + i, part) + load(b + i, part); });
  });
}

void scale(const Scale& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(p.x);
    map_elements(static_cast<T*>(p.y), p.size,
                 [&](int64_t i, auto part) { return load(x + i, part) * p.factor; });
  });
}

void accumulate(const Accumulate& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(p.x);
    T* y = static_cast<T*>(p.y);
    if (p.accumulate) {
      map_elements(y, p.size,
                   [&](int64_t i, auto part) { return load(y + i, part) + load(x + i, part) * p.factor; });
    } else {
      map_elements(y, p.size, [&](int64_t i, auto part) { return load(x + i, part) * p.factor; });
    }
  });
}

void cast(const Cast& p) {
  with_dtype(p.from, [&](auto from) {
    with_dtype(p.to, [&](auto to) {
      const auto* x = static_cast<const decltype(from)*>(p.x);
      map_elements(static_cast<decltype(to)*>(p.y), p.size,
                   [&](int64_t i, auto part) { return load(x + i, part); });
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
