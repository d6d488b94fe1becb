// Shared by row-wise kernels: the number of rows in use, zeros after them, and the size of a task.
#pragma once

#include <cstddef>

#include "core/parallel.h"
#include "core/sequences.h"
#include "cpu/isa/simd.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

constexpr int64_t element_grain =
    16384;  // a multiple of 64, so that a task begins where eight dropout blocks do

static inline int64_t row_grain(int64_t features) {
  return max_of(1, element_grain / max_of(1, features));
}

static inline Rows all_rows(int64_t count) {
  return {count, count, nullptr};
}

static inline int64_t rows_in_use(const Rows& rows) {
  return rows.tokens == nullptr ? rows.bound : *rows.tokens;
}

template <class T>
static inline void zero(T* to, int64_t count) {
  if (count > 0) __builtin_memset(to, 0, static_cast<size_t>(count) * sizeof(T));
}

// Calls body(begin, end) on ranges that cover the elements of the rows in use; the rest of `out` becomes 0.
template <class T, class Body>
static inline void parallel_elements(const Rows& rows, int64_t features, T* out, const Body& body) {
  const int64_t in_use = rows_in_use(rows) * features;
  parallel_for(rows.capacity * features, element_grain, [&](int64_t begin, int64_t end) {
    const int64_t middle = max_of(begin, min_of(end, in_use));
    body(begin, middle);
    zero(out + middle, end - middle);
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
