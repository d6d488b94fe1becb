// add, scale and accumulate: what the tape needs between the coarse ops.
#pragma once

#include "core/tensor.h"

namespace dragoman {

struct Add {
  const float* a;  // (size,)
  const float* b;  // (size,)
  float* y;        // (size,)
  int64_t size;
};

struct Scale {
  const float* x;  // (size,)
  float* y;        // (size,)
  int64_t size;
  float factor;
};

struct Accumulate {
  const float* x;  // (size,)
  float* y;        // (size,) y = factor * x, or y += factor * x
  int64_t size;
  float factor;
  bool accumulate;
};

Tensor add(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, double factor);
void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate);

}  // namespace dragoman
