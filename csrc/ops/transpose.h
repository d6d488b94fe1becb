// transpose: the first two axes exchanged, y[j, i] = x[i, j].
#pragma once

#include "core/tensor.h"

namespace dragoman {

struct Transpose {
  const void* x;  // (rows, columns, width)
  void* y;        // (columns, rows, width)
  int64_t rows, columns, width;
  DType dtype;
};

Tensor transpose(const Tensor& x);  // its own gradient

}  // namespace dragoman
