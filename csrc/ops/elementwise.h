// add, scale, accumulate and cast: what the tape needs between the coarse ops.
#pragma once

#include <string>

#include "core/tensor.h"

namespace dragoman {

struct Add {
  const void* a;  // (size,)
  const void* b;  // (size,)
  void* y;        // (size,)
  int64_t size;
  DType dtype;
};

struct Scale {
  const void* x;  // (size,)
  void* y;        // (size,)
  int64_t size;
  DType dtype;
  float factor;
};

struct Accumulate {
  const void* x;  // (size,)
  void* y;        // (size,) y = factor * x, or y += factor * x
  int64_t size;
  DType dtype;
  float factor;
  bool accumulate;
};

struct Cast {
  const void* x;  // (size,)
  void* y;        // (size,)
  int64_t size;
  DType from, to;
};

Tensor add(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, double factor);
void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate);
Tensor cast(const Tensor& x, const std::string& dtype);  // float32 and bfloat16, to the nearest value

}  // namespace dragoman
