// Sums over rows, in one order for any number of threads: first within chunks of rows, then over the chunks.
#pragma once

#include "core/storage.h"
#include "cpu/isa/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// total (features,) = or += the sum of the chunks' partial sums, which are `stride` elements apart.
static inline void add_chunks(const float* partial, int64_t chunks, int64_t stride, int64_t features,
                              bool accumulate, float* total) {
  parallel_for(features, row_grain(chunks), [&](int64_t begin, int64_t end) {
    each_vector(end - begin, [&](int64_t i, auto part) {
      Vec sum{};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += load(partial + chunk * stride + begin + i, part);
      }
      if (accumulate) sum += load(total + begin + i, part);
      store(total + begin + i, sum, part);
    });
  });
}

// total (features,) = or += the sum of `rows` rows of x, which are `ld` elements apart.
template <class T>
static void sum_rows(const T* x, int64_t ld, int64_t rows, int64_t features, bool accumulate, float* total) {
  constexpr int64_t chunk_rows = 128;
  const int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  const Scratch scratch(chunks * features * static_cast<int64_t>(sizeof(float)));
  float* partial = static_cast<float*>(scratch.data);  // (chunks, features)
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    float* partial_chunk = partial + chunk * features;
    zero(partial_chunk, features);
    const int64_t row_end = min_of(rows, (chunk + 1) * chunk_rows);
    for (int64_t row = chunk * chunk_rows; row < row_end; ++row) {
      each_vector(features, [&](int64_t i, auto part) {
        store(partial_chunk + i, load(partial_chunk + i, part) + load(x + row * ld + i, part), part);
      });
    }
  });
  add_chunks(partial, chunks, features, features, accumulate, total);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
