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

template <class Part>
static inline Vec load_as(DType dtype, const void* from, int64_t i, Part part) {
  return dtype == DType::bfloat16 ? load(static_cast<const bfloat16*>(from) + i, part)
                                  : load(static_cast<const float*>(from) + i, part);
}

// An operand from one element of a row on: data[first], data[first + 1] and so on, or `value` everywhere.
struct Run {
  const void* data;  // or null
  int64_t first;
  DType dtype;
  Vec value;
};

static inline Run run_of(const Operand& operand, int64_t row, int64_t column) {
  const int64_t first = row * operand.row_stride;
  if (operand.data == nullptr) return {nullptr, 0, operand.dtype, broadcast(operand.number)};
  if (operand.column_stride == 0) {
    return {nullptr, 0, operand.dtype,
            broadcast(load_as(operand.dtype, operand.data, first, FirstLanes{1})[0])};
  }
  return {operand.data, first + column, operand.dtype, Vec{}};
}

template <class Part>
static inline Vec load(const Run& run, int64_t i, Part part) {
  return run.data == nullptr ? run.value : load_as(run.dtype, run.data, run.first + i, part);
}

// Tasks are ranges of elements, cut into rows.
template <class Y, class Combine>
static inline void map_rows(const Binary& p, const Combine& combine) {
  parallel_for(p.rows * p.features, element_grain, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end;) {
      const int64_t row = first / p.features, column = first - row * p.features;
      const int64_t count = min_of(p.features - column, end - first);
      const Run a = run_of(p.a, row, column), b = run_of(p.b, row, column);
      Y* y = static_cast<Y*>(p.y) + first;
      each_vector(count, [&](int64_t i, auto part) {
        store(y + i, combine(load(a, i, part), load(b, i, part)), part);
      });
      first += count;
    }
  });
}

void binary(const Binary& p) {
  with_dtype(p.dtype, [&](auto element) {
    using Y = decltype(element);
    switch (p.kind) {
      case BinaryKind::add:
        return map_rows<Y>(p, [](Vec a, Vec b) { return a + b; });
      case BinaryKind::subtract:
        return map_rows<Y>(p, [](Vec a, Vec b) { return a - b; });
      case BinaryKind::multiply:
        return map_rows<Y>(p, [](Vec a, Vec b) { return a * b; });
      case BinaryKind::divide:
        return map_rows<Y>(p, [](Vec a, Vec b) { return a / b; });
      case BinaryKind::maximum:
        return map_rows<Y>(p, [](Vec a, Vec b) { return a != a ? a : vmax(a, b); });
      default:
        return map_rows<Y>(p, [](Vec a, Vec b) {
          return a > b ? broadcast(1.0f) : a == b ? broadcast(0.5f) : Vec{};
        });
    }
  });
}

void unary(const Unary& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(p.x);
    T* y = static_cast<T*>(p.y);
    switch (p.kind) {
      case UnaryKind::exp:
        return map_elements(y, p.size, [&](int64_t i, auto part) { return vexp(load(x + i, part)); });
      case UnaryKind::log:
        return map_elements(y, p.size, [&](int64_t i, auto part) { return vlog(load(x + i, part)); });
      default:
        return map_elements(y, p.size, [&](int64_t i, auto part) { return vsqrt(load(x + i, part)); });
    }
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

void scale_by(const ScaleBy& p) {
  const float factor = *p.factor;
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    T* y = static_cast<T*>(p.y);
    map_elements(y, p.size, [&](int64_t i, auto part) { return load(y + i, part) * factor; });
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
