// gather: y[i] = x[ids[i]], rows of the first axis.
#pragma once

#include <string>

#include "core/tensor.h"

namespace dragoman {

struct GatherForward {
  const void* x;       // (rows, row_bytes)
  const int32_t* ids;  // (num_ids,) in [0, rows)
  void* y;             // (num_ids, row_bytes)
  int64_t num_ids, row_bytes;
};

struct GatherBackward {
  const void* dy;         // (num_ids, features)
  const int32_t* ids;     // (num_ids,) in [0, rows)
  float* dx;              // (rows, features), overwritten: the rows of dy with one id are added in order
  const int32_t* order;   // (num_ids,) the rows of dy by their ids; null on the CPU
  const int32_t* pieces;  // (num_pieces + 1,) stretches of order with one id each (ops/id_pieces.h)
  int64_t num_pieces;
  int64_t num_ids, rows, features;
  DType dtype;  // of dy
};

Tensor gather_forward(const Tensor& x, const Tensor& ids);
Tensor gather_backward(const Tensor& dy, const Tensor& ids, const Shape& shape);  // `shape` is that of x

}  // namespace dragoman
