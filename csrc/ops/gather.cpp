#include "ops/gather.h"

#include "core/backend.h"
#include "ops/elementwise.h"
#include "ops/id_pieces.h"
#include "ops/indices.h"

namespace dragoman {

namespace {

Tensor checked_ids(const char* op, const Tensor& ids, int64_t rows) {
  check_indices(op, "ids", ids);
  check_rank(op, "ids", ids, 1);
  return checked_indices(op, "ids", ids, ids.dim(0), 0, rows);
}

// `shape` with another number of rows.
Shape with_rows(Shape shape, int64_t rows) {
  shape.front() = rows;
  return shape;
}

}  // namespace

Tensor gather_forward(const Tensor& x, const Tensor& ids) {
  check_activations("gather", "x", x);
  CHECK(x.rank() > 0, "gather: x must have at least 1 dimension, got shape ()");
  const Tensor checked = checked_ids("gather", ids, x.dim(0));
  const Tensor y = Tensor::empty(with_rows(x.shape(), ids.dim(0)), x.dtype(), x.device());
  const int64_t row_bytes = x.dim(0) == 0 ? 0 : x.nbytes() / x.dim(0);
  const Tensor device_ids = checked.to(x.device());
  kernels(x).gather_forward({.x = x.raw(),
                             .ids = device_ids.data<int32_t>(),
                             .y = y.raw(),
                             .num_ids = ids.dim(0),
                             .row_bytes = row_bytes});
  return y;
}

Tensor gather_backward(const Tensor& dy, const Tensor& ids, const Shape& shape) {
  check_activations("gather_backward", "dy", dy);
  CHECK(!shape.empty(), "gather_backward: shape must have at least 1 dimension, got ()");
  const Tensor checked = checked_ids("gather_backward", ids, shape.front());
  check_shape("gather_backward", "dy", dy, with_rows(shape, ids.dim(0)));
  const Tensor dx = Tensor::empty(shape, DType::float32, dy.device());
  const Tensor device_ids = checked.to(dy.device());
  std::optional<Tensor> order, pieces;  // the CPU's kernel takes the rows as they are
  if (dy.device() != cpu_device) {
    const IdPieces sorted = pieces_of(checked, shape.front());
    order = sorted.order.to(dy.device());
    pieces = sorted.pieces.to(dy.device());
  }
  kernels(dy).gather_backward({.dy = dy.raw(),
                               .ids = device_ids.data<int32_t>(),
                               .dx = dx.data<float>(),
                               .order = data_or_null<int32_t>(order),
                               .pieces = data_or_null<int32_t>(pieces),
                               .num_pieces = pieces ? pieces->numel() - 1 : 0,
                               .num_ids = ids.dim(0),
                               .rows = shape.front(),
                               .features = element_count(Shape(shape.begin() + 1, shape.end())),
                               .dtype = dy.dtype()});
  return dy.dtype() == DType::float32 ? dx : cast(dx, "bfloat16");
}

}  // namespace dragoman
