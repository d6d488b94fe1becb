#include "ops/rotary.h"

#include "core/storage.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"
#include "cpu/positions.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Turns one head.   x, y: (head_dim,)   table: (features,)
template <class T>
static void turn(const Rotary& p, const T* x, const float* table, T* y) {
  const int64_t half = p.features / 2;
  each_vector(half, [&](int64_t i, auto part) {
    const Vec first = load(x + i, part), second = load(x + half + i, part);
    const Vec cosine = load(table + i, part), sine = load(table + half + i, part);
    const Vec signed_sine = p.inverse ? -sine : sine;
    store(y + i, first * cosine - second * signed_sine, part);
    store(y + half + i, second * cosine + first * signed_sine, part);
  });
  each_vector(p.head_dim - p.features,
              [&](int64_t i, auto part) { store(y + p.features + i, load(x + p.features + i, part), part); });
}

template <class T>
static void turn_rows(const Rotary& p) {
  const int64_t in_use = rows_in_use(p.sequences.rows), columns = p.num_heads * p.head_dim;
  const Scratch scratch(in_use * static_cast<int64_t>(sizeof(int32_t)));
  int32_t* position = static_cast<int32_t*>(scratch.data);
  fill_positions(p.sequences, p.starts, position);
  T* y = static_cast<T*>(p.y);
  parallel_for(in_use, row_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* table = p.table + position[row] * p.features;
      for (int64_t i = row * columns; i < (row + 1) * columns; i += p.head_dim) {
        turn(p, static_cast<const T*>(p.x) + i, table, y + i);
      }
    }
  });
  zero(y + in_use * columns, (p.sequences.rows.capacity - in_use) * columns);
}

void rotary(const Rotary& p) {
  with_dtype(p.dtype, [&](auto element) { turn_rows<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
