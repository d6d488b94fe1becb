#include "ops/reduce.h"

#include "core/backend.h"
#include "ops/elementwise.h"

namespace dragoman {

namespace {

// x as (rows, features) so that the axis is one of the two.
struct Plan {
  ReduceOver over;
  int64_t rows, features;
  Shape kept;  // of y with keepdims

  int64_t count() const {  // of the elements in one sum
    return (over == ReduceOver::features ? 1 : rows) * (over == ReduceOver::rows ? 1 : features);
  }
};

int64_t product(Shape::const_iterator first, Shape::const_iterator last) {
  return element_count(Shape(first, last));
}

Plan plan_of(const char* op, const Shape& shape, std::optional<int64_t> axis) {
  const int64_t rank = static_cast<int64_t>(shape.size());
  Shape kept = shape;
  const bool first = axis && (*axis == 0 || *axis == -rank),
             last = axis && (*axis == -1 || *axis == rank - 1);
  CHECK(!axis || (rank > 0 && (first || last)), op, ": axis must be the first or the last of shape ", shape,
        ", or None, got ", *axis);
  if (!axis || rank == 1) return {ReduceOver::all, 1, element_count(shape), Shape(shape.size(), 1)};
  if (first) {
    kept.front() = 1;
    return {ReduceOver::rows, shape.front(), product(shape.begin() + 1, shape.end()), kept};
  }
  kept.back() = 1;
  return {ReduceOver::features, product(shape.begin(), shape.end() - 1), shape.back(), kept};
}

float factor_of(const std::string& kind, const Plan& plan) {
  CHECK(kind == "sum" || kind == "mean", "reduce: kind must be sum or mean, got ", kind);
  return kind == "sum" ? 1.0f : 1.0f / static_cast<float>(plan.count());
}

Tensor run(const Tensor& x, const Plan& plan, float factor, Shape shape, DType dtype) {
  const Tensor y = Tensor::empty(std::move(shape), dtype, x.device());
  kernels(x).reduce({.x = x.raw(),
                     .y = y.raw(),
                     .rows = plan.rows,
                     .features = plan.features,
                     .dtype = x.dtype(),
                     .y_dtype = dtype,
                     .over = plan.over,
                     .factor = factor});
  return y;
}

// plan.kept without the axes that were summed over.
Shape without_axis(const Plan& plan) {
  Shape shape = plan.kept;
  if (plan.over == ReduceOver::all) return {};
  shape.erase(plan.over == ReduceOver::rows ? shape.begin() : shape.end() - 1);
  return shape;
}

}  // namespace

Tensor reduce_forward(const std::string& kind, const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  check_activations(kind.c_str(), "x", x);
  const Plan plan = plan_of(kind.c_str(), x.shape(), axis);
  return run(x, plan, factor_of(kind, plan), keepdims ? plan.kept : without_axis(plan), x.dtype());
}

Tensor reduce_backward(const std::string& kind, const Tensor& dy, const Shape& shape,
                       std::optional<int64_t> axis) {
  check_activations("reduce_backward", "dy", dy);
  const Plan plan = plan_of("reduce_backward", shape, axis);
  CHECK(dy.numel() == element_count(plan.kept), "reduce_backward: dy must hold ", element_count(plan.kept),
        " elements, got shape ", dy.shape());
  const Tensor dx = Tensor::empty(shape, dy.dtype(), dy.device());
  kernels(dy).binary({.a = {.data = dy.raw(),
                            .row_stride = plan.over == ReduceOver::features ? 1 : 0,
                            .column_stride = plan.over == ReduceOver::rows ? 1 : 0,
                            .dtype = dy.dtype()},
                      .b = {.data = nullptr, .number = factor_of(kind, plan)},
                      .y = dx.raw(),
                      .rows = plan.rows,
                      .features = plan.features,
                      .dtype = dy.dtype(),
                      .kind = BinaryKind::multiply});
  return dx;
}

Tensor sum_to(const Tensor& x, const Shape& shape, DType dtype) {
  const Shape& from = x.shape();
  Plan plan{ReduceOver::rows, product(from.begin(), from.end() - 1), from.back(), {}};
  if (element_count(shape) == 1) {
    plan = plan_of("sum_to", from, std::nullopt);
  } else if (shape.size() == 2 && shape.back() == 1 && from.back() != 1) {
    plan.over = ReduceOver::features;
  }
  return run(x, plan, 1.0f, shape, dtype);
}

}  // namespace dragoman
