#include "ops/elementwise.h"

#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// y[i] = value(i, part) for every element.
template <class Value>
static inline void map_elements(float* y, int64_t size, const Value& value) {
  parallel_for(size, element_grain, [&](int64_t begin, int64_t end) {
    each_vector(end - begin,
                [&](int64_t i, auto part) { store(y + begin + i, value(begin + i, part), part); });
  });
}

void add(const Add& p) {
  map_elements(p.y, p.size, [&](int64_t i, auto part) { return load(p.a + i, part) + load(p.b + i, part); });
}

void scale(const Scale& p) {
  map_elements(p.y, p.size, [&](int64_t i, auto part) { return load(p.x + i, part) * p.factor; });
}

void accumulate(const Accumulate& p) {
  if (p.accumulate) {
    map_elements(p.y, p.size,
                 [&](int64_t i, auto part) { return load(p.y + i, part) + load(p.x + i, part) * p.factor; });
  } else {
    map_elements(p.y, p.size, [&](int64_t i, auto part) { return load(p.x + i, part) * p.factor; });
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
