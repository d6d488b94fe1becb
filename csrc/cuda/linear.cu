#include "ops/linear.h"

#include <optional>

#include "cuda/activation.h"
#include "cuda/cublaslt.h"
#include "cuda/dropout_mask.h"
#include "cuda/epilogue_bias.h"
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/scratch.h"
#include "cuda/sum_rows.h"
#include "cuda/tail.h"
#include "ops/dropout.h"

namespace dragoman::cuda {

namespace {

// y = dropout(activation(x))
struct Finish {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[1][8], float (&y)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) y[0][j] = activate<decltype(chosen)::value>(x[0][j]) * factor[j];
    });
  }
};

// dpre from dy and what was saved: dy times the derivative of dropout and activation.
struct Slope {
  Activation activation;
  Dropout dropout;

  __device__ void operator()(int64_t index, const float (&x)[2][8], float (&dpre)[1][8]) const {
    float factor[8];
    keep_factors(at_its_step(dropout), index, factor);
    with_activation(activation, [&](auto chosen) {
#pragma unroll
      for (int j = 0; j < 8; ++j) dpre[0][j] = x[0][j] * factor[j] * slope<decltype(chosen)::value>(x[1][j]);
    });
  }
};

// Writes dpre (bound, out_features), the gradient of x W^T + bias. After ReLU the mask is not computed again:
// a dropped element is 0 in y, where ReLU's derivative is 0 too.
void multiply_by_slope(const LinearBackward& p, const Rows& rows, void* dpre) {
  if (p.activation == Activation::none) {
    return dropout_forward({.x = p.dy,
                            .y = dpre,
                            .rows = rows,
                            .features = p.out_features,
                            .dtype = p.dtype,
                            .dropout = p.dropout});
  }
  Dropout dropout = p.dropout;
  if (p.activation == Activation::relu) dropout.threshold = 0;
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    map<T, T>({p.dy, p.saved}, {dpre}, rows, p.out_features, Slope{p.activation, dropout});
  });
}

}  // namespace

int64_t packed_weight_size(const PackWeight&) {
  return 0;  // cuBLASLt reads weights as they are
}

void pack_weight(const PackWeight&) {}

void linear_forward(const LinearForward& p) {
  const EpilogueBias bias(p.bias, p.out_features, p.dtype);
  void* sum = p.pre != nullptr ? p.pre : p.y;
  product({.m = p.rows.bound,
           .n = p.out_features,
           .k = p.in_features,
           .a = p.x,
           .lda = p.in_features,
           .b = p.weight,
           .ldb = p.in_features,
           .transpose_b = true,
           .c = sum,
           .ldc = p.out_features,
           .bias = bias.data(),
           .relu = p.activation == Activation::relu,
           .dtype = p.dtype,
           .c_dtype = p.dtype});
  if (p.pre != nullptr || p.dropout.threshold != 0) {
    const Activation rest = p.pre != nullptr ? p.activation : Activation::none;
    with_dtype(p.dtype, [&](auto element) {
      using T = decltype(element);
      map<T, T>({sum}, {p.y}, p.rows, p.out_features, Finish{rest, p.dropout});
    });
  } else {
    clear_tail(p.y, p.dtype, p.rows, p.out_features);
  }
  if (p.pre != nullptr) clear_tail(p.pre, p.dtype, p.rows, p.out_features);
}

void linear_backward(const LinearBackward& p) {
  const Rows rows = {p.rows.bound, p.rows.bound, p.rows.tokens};
  const void* dpre = p.dy;
  std::optional<Scratch> scratch;
  if (const int64_t size = rows.bound * p.out_features * item_size(p.dtype);
      size > 0 && (p.activation != Activation::none || p.dropout.threshold != 0)) {
    scratch.emplace(size);
    multiply_by_slope(p, rows, scratch->data);
    dpre = scratch->data;
  }
  if (p.dx != nullptr) {
    product({.m = rows.bound,
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
    clear_tail(p.dx, p.dtype, p.rows, p.in_features);
  }
  if (p.dweight != nullptr) {
    product({.m = p.out_features,
             .n = p.in_features,
             .k = rows.bound,
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
  if (p.dbias != nullptr) {
    sum_rows(p.dtype, dpre, p.out_features, rows, p.out_features, p.accumulate_bias, p.dbias);
  }
}

}  // namespace dragoman::cuda
