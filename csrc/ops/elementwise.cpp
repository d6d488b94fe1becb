#include "ops/elementwise.h"

#include "core/backend.h"
#include "ops/reduce.h"

namespace dragoman {

namespace {

BinaryKind parse_binary(const std::string& kind) {
  if (kind == "add") return BinaryKind::add;
  if (kind == "subtract") return BinaryKind::subtract;
  if (kind == "multiply") return BinaryKind::multiply;
  if (kind == "divide") return BinaryKind::divide;
  CHECK(kind == "maximum", "binary: kind must be add, subtract, multiply, divide or maximum, got ", kind);
  return BinaryKind::maximum;
}

UnaryKind parse_unary(const std::string& kind) {
  if (kind == "exp") return UnaryKind::exp;
  if (kind == "log") return UnaryKind::log;
  CHECK(kind == "sqrt", "unary: kind must be exp, log or sqrt, got ", kind);
  return UnaryKind::sqrt;
}

// A tensor or a number, with the shape that it is repeated from: () for a number.
struct Side {
  std::optional<Tensor> tensor;
  float number = 0.0f;
  Shape shape;

  Side(double value) : number(static_cast<float>(value)) {}
  Side(const Tensor& values) : tensor(values), shape(values.shape()) {}
  Side(const std::optional<Tensor>& values, double value)
      : tensor(values), number(static_cast<float>(value)), shape(values ? values->shape() : Shape()) {}

  bool single() const { return element_count(shape) == 1; }
};

// A shape as (rows, features): as it is up to two axes, else the last axis against the others.
struct Matrix {
  int64_t rows = 1, features = 1;
};

Matrix matrix_of(const Shape& shape) {
  Matrix matrix;
  if (!shape.empty()) matrix.features = shape.back();
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis) matrix.rows *= shape[axis];
  return matrix;
}

bool fits(int64_t size, int64_t into) {
  return size == into || size == 1;
}

// The shape of a (kind) b; ValueError where they do not fit.
Shape result_shape(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const bool a_is_larger = a.size() != b.size() ? a.size() > b.size() : element_count(a) >= element_count(b);
  const Shape& larger = a_is_larger ? a : b;
  const Shape& smaller = a_is_larger ? b : a;
  if (element_count(smaller) == 1) return larger;
  const Matrix wide = matrix_of(larger), narrow = matrix_of(smaller);
  if (larger.size() <= 2) {
    const bool fit = (fits(narrow.rows, wide.rows) || wide.rows == 1) &&
                     (fits(narrow.features, wide.features) || wide.features == 1);
    if (fit) {
      Shape shape = larger;
      shape.back() = wide.features == 1 ? narrow.features : wide.features;
      if (shape.size() == 2) shape.front() = wide.rows == 1 ? narrow.rows : wide.rows;
      return shape;
    }
  } else if (smaller.size() == 1 && narrow.features == wide.features) {
    return larger;
  }
  throw ValueError(concat(op, ": b must have shape ", a, " like a, or one of them be a single element, ",
                          "(features,), (1, features) or (tokens, 1), got ", b));
}

Operand operand_of(const Side& side, const Matrix& y, bool flat) {
  if (!side.tensor) return {.data = nullptr, .number = side.number};
  Operand operand{.data = side.tensor->raw(), .dtype = side.tensor->dtype()};
  if (side.single()) return operand;
  const Matrix from = flat ? y : matrix_of(side.shape);
  operand.row_stride = from.rows == 1 ? 0 : from.features;
  operand.column_stride = from.features == 1 ? 0 : 1;
  return operand;
}

// y of `shape` and `dtype` = a (kind) b, whose shapes fit.
Tensor combine(BinaryKind kind, const Side& a, const Side& b, const Shape& shape, DType dtype) {
  const Tensor& like = a.tensor ? *a.tensor : *b.tensor;
  const Tensor y = Tensor::empty(shape, dtype, like.device());
  const bool flat = (a.single() || a.shape == shape) && (b.single() || b.shape == shape);
  const Matrix matrix = flat ? Matrix{1, y.numel()} : matrix_of(shape);
  kernels(like).binary({.a = operand_of(a, matrix, flat),
                        .b = operand_of(b, matrix, flat),
                        .y = y.raw(),
                        .rows = matrix.rows,
                        .features = matrix.features,
                        .dtype = dtype,
                        .kind = kind});
  return y;
}

}  // namespace

Tensor binary_forward(const std::string& kind, const std::optional<Tensor>& a, const std::optional<Tensor>& b,
                      double number) {
  const char* op = kind.c_str();
  const BinaryKind parsed = parse_binary(kind);
  CHECK(a || b, op, ": a or b must be a tensor");
  if (a) check_activations(op, "a", *a);
  if (b) check_activations(op, "b", *b);
  const Side left(a, number), right(b, number);
  const Shape shape = result_shape(op, left.shape, right.shape);
  DType dtype = a ? a->dtype() : b->dtype();
  if (a && b && a->dtype() != b->dtype()) {
    CHECK_TYPE((a->shape() == shape) != (b->shape() == shape), op, ": b must be ", a->dtype(),
               " like a, got ", b->dtype());
    if (b->shape() == shape) dtype = b->dtype();
  }
  return combine(parsed, left, right, shape, dtype);
}

Tensor binary_backward(const std::string& kind, bool of_b, const Tensor& dy, const std::optional<Tensor>& a,
                       const std::optional<Tensor>& b, double number, const Shape& shape,
                       const std::string& dtype) {
  const DType out = parse_activation_dtype("binary_backward", dtype);
  check_activations("binary_backward", "dy", dy);
  const Side left(a, number), right(b, number);
  // Before a sum nothing is rounded to bfloat16.
  const bool repeated = shape != dy.shape();
  const DType wide = repeated ? DType::float32 : out;
  Tensor d = dy;
  switch (parse_binary(kind)) {
    case BinaryKind::add:
      break;
    case BinaryKind::subtract:
      if (of_b) d = combine(BinaryKind::multiply, dy, -1.0, dy.shape(), wide);
      break;
    case BinaryKind::multiply:
      d = combine(BinaryKind::multiply, dy, of_b ? left : right, dy.shape(), wide);
      break;
    case BinaryKind::divide:
      if (of_b) {  // -dy * a / b / b
        d = combine(BinaryKind::multiply, dy, left, dy.shape(), DType::float32);
        d = combine(BinaryKind::divide, d, right, dy.shape(), DType::float32);
        d = combine(BinaryKind::multiply, d, -1.0, dy.shape(), DType::float32);
      }
      d = combine(BinaryKind::divide, d, right, dy.shape(), wide);
      break;
    default: {
      const Tensor slope =
          combine(BinaryKind::step, of_b ? right : left, of_b ? left : right, dy.shape(), DType::float32);
      d = combine(BinaryKind::multiply, dy, slope, dy.shape(), wide);
    }
  }
  return repeated ? sum_to(d, shape, out) : d;
}

Tensor unary_forward(const std::string& kind, const Tensor& x) {
  check_activations(kind.c_str(), "x", x);
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels(x).unary(
      {.x = x.raw(), .y = y.raw(), .size = x.numel(), .dtype = x.dtype(), .kind = parse_unary(kind)});
  return y;
}

Tensor unary_backward(const std::string& kind, const Tensor& dy, const Tensor& saved) {
  check_dtype("unary_backward", "dy", dy, saved.dtype());
  check_shape("unary_backward", "dy", dy, saved.shape());
  switch (parse_unary(kind)) {
    case UnaryKind::exp:
      return combine(BinaryKind::multiply, dy, saved, dy.shape(), dy.dtype());
    case UnaryKind::log:
      return combine(BinaryKind::divide, dy, saved, dy.shape(), dy.dtype());
    default:
      return combine(BinaryKind::divide, combine(BinaryKind::multiply, dy, 0.5, dy.shape(), DType::float32),
                     saved, dy.shape(), dy.dtype());
  }
}

void accumulate(const Tensor& y, const Tensor& x, double factor, bool accumulate) {
  check_activations("accumulate", "x", x);
  check_dtype("accumulate", "y", y, x.dtype());
  check_shape("accumulate", "y", y, x.shape());
  check_writeable("accumulate", "y", y);
  kernels(x).accumulate({.x = x.raw(),
                         .y = y.raw(),
                         .size = x.numel(),
                         .dtype = x.dtype(),
                         .factor = static_cast<float>(factor),
                         .accumulate = accumulate});
}

void scale_by(const Tensor& y, const Tensor& factor) {
  check_activations("scale_by", "y", y);
  check_writeable("scale_by", "y", y);
  check_dtype("scale_by", "factor", factor, DType::float32);
  CHECK(factor.numel() == 1, "scale_by: factor must have one element, got shape ", factor.shape());
  kernels(y).scale_by({.y = y.raw(), .factor = factor.data<float>(), .size = y.numel(), .dtype = y.dtype()});
}

Tensor cast(const Tensor& x, const std::string& dtype) {
  check_activations("cast", "x", x);
  const DType to = parse_activation_dtype("cast", dtype);
  Tensor y = Tensor::empty(x.shape(), to, x.device());
  cast_into(x, y);
  return y;
}

void cast_into(const Tensor& x, const Tensor& y) {
  check_activations("cast_into", "x", x);
  check_activations("cast_into", "y", y);
  check_shape("cast_into", "y", y, x.shape());
  check_writeable("cast_into", "y", y);
  kernels(x).cast({.x = x.raw(), .y = y.raw(), .size = x.numel(), .from = x.dtype(), .to = y.dtype()});
}

}  // namespace dragoman
