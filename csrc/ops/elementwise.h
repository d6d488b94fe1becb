// Arithmetic element by element, and the gradients' sums and casts that the tape needs between the coarse
// ops.
#pragma once

#include <optional>
#include <string>

#include "core/tensor.h"

namespace dragoman {

// step: 1 where a > b, 0.5 where they are equal, else 0: the slope of maximum for a.
enum class BinaryKind { add, subtract, multiply, divide, maximum, step };

// One side of a Binary. Element (row, column) is data[row * row_stride + column * column_stride].
struct Operand {
  const void* data;           // or null: `number` everywhere
  int64_t row_stride = 0;     // 0: one row for all
  int64_t column_stride = 0;  // 1, or 0: one value for a whole row
  DType dtype = DType::float32;
  float number = 0.0f;
};

struct Binary {
  Operand a, b;
  void* y;  // (rows, features)
  int64_t rows, features;
  DType dtype;  // of y
  BinaryKind kind;
};

enum class UnaryKind { exp, log, sqrt };

struct Unary {
  const void* x;  // (size,)
  void* y;        // (size,)
  int64_t size;
  DType dtype;
  UnaryKind kind;
};

struct Accumulate {
  const void* x;  // (size,)
  void* y;        // (size,) y = factor * x, or y += factor * x
  int64_t size;
  DType dtype;
  float factor;
  bool accumulate;
};

struct ScaleBy {
  void* y;              // (size,) y *= factor
  const float* factor;  // (1,)
  int64_t size;
  DType dtype;
};

struct Cast {
  const void* x;  // (size,)
  void* y;        // (size,)
  int64_t size;
  DType from, to;
};

// y = a (kind) b; an operand that is absent is `number`. Operands are float32 or bfloat16, of the same shape,
// or one of them is repeated as NumPy does: one element, (features,), (1, features) or (tokens, 1). Of two
// dtypes, y has that of the operand which has y's shape.
Tensor binary_forward(const std::string& kind, const std::optional<Tensor>& a, const std::optional<Tensor>& b,
                      double number);

// The gradient of a, or of b if `of_b`, in its `shape` and `dtype`. What was repeated gets a sum. Operands
// are those of forward; add and subtract need none.
Tensor binary_backward(const std::string& kind, bool of_b, const Tensor& dy, const std::optional<Tensor>& a,
                       const std::optional<Tensor>& b, double number, const Shape& shape,
                       const std::string& dtype);

Tensor unary_forward(const std::string& kind, const Tensor& x);
// `saved` is x for log, y for exp and sqrt.
Tensor unary_backward(const std::string& kind, const Tensor& dy, const Tensor& saved);

void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate);
void scale_by(const Tensor& y, const Tensor& factor);    // y *= factor, one float32 element
Tensor cast(const Tensor& x, const std::string& dtype);  // float32 and bfloat16, to the nearest value
void cast_into(const Tensor& x, const Tensor& y);        // y = x in the dtype of y

}  // namespace dragoman
