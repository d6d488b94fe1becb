#include "ops/frozen.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/int8.h"
#include "cpu/isa/rows.h"
#include "cpu/kernels.h"
#include "cpu/positions.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void quantize_rows(const QuantizeRows& p) {
  parallel_for(p.rows, row_grain(p.columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      p.scales[i] = round_to_int8(p.weight + i * p.columns, p.columns, p.values + i * p.columns);
    }
  });
}

void unpack_weight(const UnpackWeight& p) {
  const int64_t row_bytes = p.in_features * item_size(p.dtype);
  parallel_for(p.out_features, row_grain(p.in_features), [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      void* row = static_cast<char*>(p.weight) + j * row_bytes;
      if (p.dtype == DType::int8) {
        unpack_int8(p.in_features, p.packed, j, static_cast<int8_t*>(row));
      } else {
        unpack_b(p.out_features, p.in_features, static_cast<const float*>(p.packed), p.dtype, j, row);
      }
    }
  });
}

static void narrow_all(const float* x, int64_t size, bfloat16* to) {
  parallel_for(size, element_grain, [&](int64_t begin, int64_t end) {
    each_vector(end - begin,
                [&](int64_t i, auto part) { store(to + begin + i, load(x + begin + i, part), part); });
  });
}

void frozen_linear(const FrozenLinear& p) {
  const int64_t in_use = rows_in_use(p.rows);
  zero(p.y + in_use * p.out_features, (p.rows.capacity - in_use) * p.out_features);
  if (p.dtype == DType::int8) {
    return gemm_int8({.m = in_use,
                      .n = p.out_features,
                      .k = p.in_features,
                      .x = p.x,
                      .packed = p.packed,
                      .scales = p.scales,
                      .bias = p.bias,
                      .y = p.y,
                      .activation = p.activation});
  }
  const bool narrow = p.dtype == DType::bfloat16;
  const int64_t size = in_use * p.in_features;
  const Scratch scratch(narrow ? size * item_size(DType::bfloat16) : 0);
  if (narrow) narrow_all(p.x, size, static_cast<bfloat16*>(scratch.data));
  const void* x = narrow ? scratch.data : p.x;
  Gemm g = times_weight(in_use, p.out_features, p.in_features, x, nullptr, p.packed, p.y, p.dtype);
  g.bias = p.bias;
  g.activation = p.activation;
  gemm(g);
}

static inline Vec load_lanes(const int8_t* from, int64_t count) {
  IntVec v{};
  for (int64_t i = 0; i < min_of(count, lanes); ++i) v[i] = from[i];
  return __builtin_convertvector(v, Vec);
}

void frozen_embedding(const FrozenEmbedding& p) {
  const int64_t in_use = rows_in_use(p.sequences.rows), row_bytes = p.features * item_size(p.dtype);
  const int64_t tables = max_threads() * row_bytes;
  const Scratch scratch(tables + in_use * static_cast<int64_t>(sizeof(int32_t)));
  const Scratch rows(tables);
  int32_t* position = static_cast<int32_t*>(scratch.data);
  if (p.positions != nullptr) fill_positions(p.sequences, p.starts, position);
  parallel_for(in_use, row_grain(p.features), [&](int64_t begin, int64_t end) {
    void* row = static_cast<char*>(rows.data) + thread_index() * row_bytes;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t id = p.ids[i];
      if (p.dtype == DType::int8) {
        unpack_int8(p.features, p.packed, id, static_cast<int8_t*>(row));
      } else {
        unpack_b(p.vocabulary, p.features, static_cast<const float*>(p.packed), p.dtype, id, row);
      }
      const float scale = p.scales == nullptr ? p.scale : p.scales[id] * p.scale;
      const float* position_row = p.positions == nullptr ? nullptr : p.positions + position[i] * p.features;
      each_vector(p.features, [&](int64_t l, auto part) {
        Vec v;
        if (p.dtype == DType::int8) {
          v = load_lanes(static_cast<const int8_t*>(row) + l, p.features - l);
        } else if (p.dtype == DType::bfloat16) {
          v = load(static_cast<const bfloat16*>(row) + l, part);
        } else {
          v = load(static_cast<const float*>(row) + l, part);
        }
        const Vec scaled = v * scale;
        store(p.y + i * p.features + l,
              position_row == nullptr ? scaled : scaled + load(position_row + l, part), part);
      });
    }
  });
  zero(p.y + in_use * p.features, (p.sequences.rows.capacity - in_use) * p.features);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
