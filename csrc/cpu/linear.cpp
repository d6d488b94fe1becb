#include "ops/linear.h"

#include "core/populate.h"
#include "cpu/activation.h"
#include "cpu/dropout_mask.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/int8.h"
#include "cpu/kernels.h"
#include "cpu/sum_rows.h"
#include "ops/dropout.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void linear_forward(const LinearForward& p) {
  const int64_t in_use = rows_in_use(p.rows);
  Gemm g = times_weight(in_use, p.out_features, p.in_features, p.x, p.weight, p.packed, p.y, p.dtype);
  g.bias = p.bias;
  g.activation = p.activation;
  g.pre = p.pre;
  g.c_dtype = p.dtype;
  gemm(g);
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t first = in_use * p.out_features, tail = (p.rows.capacity - in_use) * p.out_features;
    zero(static_cast<T*>(p.y) + first, tail);
    if (p.pre != nullptr) zero(static_cast<T*>(p.pre) + first, tail);
  });
  if (p.dropout.threshold != 0) {  // in place: as fast as in the product's epilogue
    dropout_forward({.x = p.y,
                     .y = p.y,
                     .rows = all_rows(in_use),
                     .features = p.out_features,
                     .dtype = p.dtype,
                     .dropout = p.dropout});
  }
}

int64_t packed_weight_size(const PackWeight& p) {
  if (p.dtype == DType::int8) return int8_packed_size(p.out_features, p.in_features);
  return packed_size(p.out_features, p.in_features, p.dtype) * static_cast<int64_t>(sizeof(float));
}

void pack_weight(const PackWeight& p) {
  if (p.first_row == 0) populate(p.packed, packed_weight_size(p));  // a few rows are written all over it
  const PackedRows rows{p.first_row, p.first_row + p.rows};
  if (p.dtype == DType::int8) {
    return pack_int8(p.out_features, p.in_features, static_cast<const int8_t*>(p.weight), rows, p.packed);
  }
  pack_b(p.out_features, p.in_features, p.weight, p.dtype, rows, static_cast<float*>(p.packed));
}

// dpre (size,) = dy times the derivative of dropout and activation: the gradient of x W^T + bias. After ReLU
// the mask is not computed again: a dropped element is 0 in y, where ReLU's derivative is 0 too.
template <class T>
static void multiply_by_slope(const LinearBackward& p, int64_t size, T* dpre) {
  const T* dy = static_cast<const T*>(p.dy);
  const T* saved = static_cast<const T*>(p.saved);
  Dropout dropout = p.dropout;
  if (p.activation == Activation::relu) dropout.threshold = 0;
  parallel_for(size, element_grain, [&](int64_t begin, int64_t end) {
    each_masked_vector(dropout, begin, end, [&](int64_t i, Vec factor, auto part) {
      Vec d = load(dy + i, part) * factor;
      if (saved != nullptr) d *= slope(load(saved + i, part), p.activation);
      store(dpre + i, d, part);
    });
  });
}

template <class T>
static void backward(const LinearBackward& p) {
  const int64_t in_use = rows_in_use(p.rows);
  const int64_t size = in_use * p.out_features;
  const bool plain = p.activation == Activation::none && p.dropout.threshold == 0;
  const Scratch scratch(plain ? 0 : size * static_cast<int64_t>(sizeof(T)));
  const T* dpre = static_cast<const T*>(p.dy);  // (in_use, out_features)
  if (!plain) {
    multiply_by_slope(p, size, static_cast<T*>(scratch.data));
    dpre = static_cast<const T*>(scratch.data);
  }
  if (p.dx != nullptr) {
    gemm({.m = in_use,
          .n = p.in_features,
          .k = p.out_features,
          .a = dpre,
          .lda = p.out_features,
          .b = p.weight,
          .ldb = p.in_features,
          .c = p.dx,
          .ldc = p.in_features,
          .dtype = p.dtype,
          .c_dtype = p.dtype});
    zero(static_cast<T*>(p.dx) + in_use * p.in_features, (p.rows.capacity - in_use) * p.in_features);
  }
  if (p.dweight != nullptr) {
    gemm({.m = p.out_features,
          .n = p.in_features,
          .k = in_use,
          .a = dpre,
          .lda = p.out_features,
          .transpose_a = true,
          .b = p.x,
          .ldb = p.in_features,
          .c = p.dweight,
          .ldc = p.in_features,
          .accumulate = p.accumulate_weight,
          .dtype = p.dtype});
  }
  if (p.dbias != nullptr) sum_rows(dpre, p.out_features, in_use, p.out_features, p.accumulate_bias, p.dbias);
}

void linear_backward(const LinearBackward& p) {
  with_dtype(p.dtype, [&](auto element) { backward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
