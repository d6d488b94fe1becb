#include "ops/pool.h"

#include "cpu/isa/rows.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Calls body(i, first row, number of rows) for every sequence. A thread takes whole sequences.
template <class Body>
static void each_sequence(const SequencesView& sequences, int64_t features, const Body& body) {
  const int64_t mean_rows = sequences.rows.bound / max_of(1, sequences.num_sequences);
  parallel_for(sequences.num_sequences, row_grain(features * max_of(1, mean_rows)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i)
                   body(i, sequences.offsets[i], int64_t{sequences.lengths[i]});
               });
}

template <class T>
static void forward(const PoolForward& p) {
  each_sequence(p.sequences, p.features, [&](int64_t i, int64_t first, int64_t rows) {
    const T* x = static_cast<const T*>(p.x) + first * p.features;
    T* y_row = static_cast<T*>(p.y) + i * p.features;
    each_vector(p.features, [&](int64_t j, auto part) {
      const auto x_at = [&](int64_t row) { return load(x + row * p.features + j, part); };
      Vec value{}, place{};
      if (rows > 0) value = x_at(p.kind == PoolKind::last ? rows - 1 : 0);
      if (p.kind == PoolKind::mean && rows > 0) {
        for (int64_t row = 1; row < rows; ++row) value += x_at(row);
        value /= static_cast<float>(rows);
      }
      if (p.kind == PoolKind::max) {
        for (int64_t row = 1; row < rows; ++row) {
          const Vec other = x_at(row);
          place = other > value ? broadcast(static_cast<float>(row)) : place;
          value = other > value ? other : value;
        }
        store(p.places + i * p.features + j, place, part);
      }
      store(y_row + j, value, part);
    });
  });
}

void pool_forward(const PoolForward& p) {
  with_dtype(p.dtype, [&](auto element) { forward<decltype(element)>(p); });
}

template <class T>
static void backward(const PoolBackward& p) {
  each_sequence(p.sequences, p.features, [&](int64_t i, int64_t first, int64_t rows) {
    const T* dy_row = static_cast<const T*>(p.dy) + i * p.features;
    const int64_t chosen = p.kind == PoolKind::last ? rows - 1 : 0;
    for (int64_t row = 0; row < rows; ++row) {
      T* dx_row = static_cast<T*>(p.dx) + (first + row) * p.features;
      each_vector(p.features, [&](int64_t j, auto part) {
        Vec gradient = load(dy_row + j, part);
        if (p.kind == PoolKind::mean) {
          gradient /= static_cast<float>(rows);
        } else if (p.kind == PoolKind::max) {
          const Vec place = load(p.places + i * p.features + j, part);
          gradient = place == static_cast<float>(row) ? gradient : Vec{};
        } else if (row != chosen) {
          gradient = Vec{};
        }
        store(dx_row + j, gradient, part);
      });
    }
  });
  const int64_t in_use = rows_in_use(p.sequences.rows);
  zero(static_cast<T*>(p.dx) + in_use * p.features, (p.sequences.rows.capacity - in_use) * p.features);
}

void pool_backward(const PoolBackward& p) {
  with_dtype(p.dtype, [&](auto element) { backward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
