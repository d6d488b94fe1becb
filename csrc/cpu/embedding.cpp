#include "ops/embedding.h"

#include "core/storage.h"
#include "cpu/dropout_mask.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"
#include "cpu/positions.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Number of columns of one task of backward. A task goes through all rows.
constexpr int64_t slice_columns = 128;

template <class T>
static void forward(const EmbeddingForward& p) {
  T* y = static_cast<T*>(p.y);
  const int64_t in_use = rows_in_use(p.sequences.rows);
  const Scratch scratch(in_use * static_cast<int64_t>(sizeof(int32_t)));
  int32_t* position = static_cast<int32_t*>(scratch.data);
  if (p.positions != nullptr) fill_positions(p.sequences, p.starts, position);
  parallel_for(in_use, row_grain(p.features), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* weight_row = p.weight + p.ids[row] * p.features;
      const float* position_row = p.positions == nullptr ? nullptr : p.positions + position[row] * p.features;
      const auto value = [&](int64_t i, auto part) {
        const Vec scaled = load(weight_row + i, part) * p.scale;
        return position_row == nullptr ? scaled : scaled + load(position_row + i, part);
      };
      const int64_t first = row * p.features;
      each_masked_vector(p.dropout, first, first + p.features, [&](int64_t index, Vec factor, auto part) {
        store(y + index, value(index - first, part) * factor, part);
      });
    }
  });
  zero(y + in_use * p.features, (p.sequences.rows.capacity - in_use) * p.features);
}

void embedding_forward(const EmbeddingForward& p) {
  with_dtype(p.dtype, [&](auto element) { forward<decltype(element)>(p); });
}

static void parallel_zero(float* to, int64_t size) {
  parallel_for(size, element_grain, [&](int64_t begin, int64_t end) { zero(to + begin, end - begin); });
}

template <class T>
static void backward(const EmbeddingBackward& p) {
  const int64_t in_use = rows_in_use(p.sequences.rows);
  const Scratch scratch(in_use * static_cast<int64_t>(sizeof(int32_t)));
  int32_t* position = static_cast<int32_t*>(scratch.data);
  if (p.dpositions != nullptr) fill_positions(p.sequences, p.starts, position);
  if (p.dweight != nullptr && !p.accumulate_weight) parallel_zero(p.dweight, p.vocabulary * p.features);
  if (p.dpositions != nullptr && !p.accumulate_positions)
    parallel_zero(p.dpositions, p.max_positions * p.features);
  // A task owns columns, not rows. So an element of a table is added up in the order of the rows, for any
  // number of threads.
  parallel_for(p.features, slice_columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < in_use; ++row) {
      const int64_t first = row * p.features;
      const auto add_gradient = [&](int64_t index, Vec factor, auto part) {
        const Vec g = load(static_cast<const T*>(p.dy) + index, part) * factor;
        if (p.dweight != nullptr) {
          float* dweight = p.dweight + p.ids[row] * p.features + (index - first);
          store(dweight, load(dweight, part) + g * p.scale, part);
        }
        if (p.dpositions != nullptr) {
          float* dposition = p.dpositions + position[row] * p.features + (index - first);
          store(dposition, load(dposition, part) + g, part);
        }
      };
      each_masked_vector(p.dropout, first + begin, first + end, add_gradient);
    }
  });
}

void embedding_backward(const EmbeddingBackward& p) {
  with_dtype(p.dtype, [&](auto element) { backward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
