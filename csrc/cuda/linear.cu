#include "ops/linear.h"

#include <optional>

#include "cuda/activation.h"
#include "cuda/cublaslt.h"
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

// Writes dpre (bound, out_features), the gradient of x W^T + bias. After ReLU the mask is not computed again:
// a dropped element is 0 in y, where ReLU's derivative is 0 too.
void multiply_by_slope(const LinearBackward& p, const Rows& rows, void* dpre) {
  if (p.activation == Activation::none)
    return map(p.dtype, {p.dy}, {dpre}, rows, p.out_features, Finish{p.activation, p.dropout});
  Dropout dropout = p.dropout;
  if (p.activation == Activation::relu) dropout.threshold = 0;
  map(p.dtype, {p.dy, p.saved}, {dpre}, rows, p.out_features, TimesSlope{p.activation, dropout});
}

}  // namespace

int64_t packed_weight_size(const PackWeight&) {
  return 0;  // cuBLASLt reads weights as they are
}

void pack_weight(const PackWeight&) {}

void linear_forward(const LinearForward& p) {
  void* sum = p.pre != nullptr ? p.pre : p.y;
  product(p.rows.bound, p.out_features, p.in_features, p.dtype, {p.x, p.in_features},
          {p.weight, p.in_features, true}, {sum, p.out_features, p.dtype}, p.bias,
          p.activation == Activation::relu);
  if (p.pre != nullptr || p.dropout.threshold != 0) {
    const Activation rest = p.pre != nullptr ? p.activation : Activation::none;
    map(p.dtype, {sum}, {p.y}, p.rows, p.out_features, Finish{rest, p.dropout});
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
    product(rows.bound, p.in_features, p.out_features, p.dtype, {dpre, p.out_features},
            {p.weight, p.in_features}, {p.dx, p.in_features, p.dtype});
    clear_tail(p.dx, p.dtype, p.rows, p.in_features);
  }
  if (p.dweight != nullptr) {
    product(p.out_features, p.in_features, rows.bound, p.dtype, {dpre, p.out_features, true},
            {p.x, p.in_features}, {p.dweight, p.in_features, DType::float32, p.accumulate_weight});
  }
  if (p.dbias != nullptr) {
    sum_rows(p.dtype, dpre, p.out_features, rows, p.out_features, p.accumulate_bias, p.dbias);
  }
}

}  // namespace dragoman::cuda
