#include "ops/pool.h"

#include "core/backend.h"

namespace dragoman {

namespace {

PoolKind parse_kind(const std::string& kind) {
  if (kind == "mean") return PoolKind::mean;
  if (kind == "max") return PoolKind::max;
  if (kind == "first") return PoolKind::first;
  CHECK(kind == "last", "pool: kind must be mean, max, first or last, got ", kind);
  return PoolKind::last;
}

}  // namespace

std::tuple<Tensor, std::optional<Tensor>> pool_forward(const std::string& kind, const Tensor& x,
                                                       const Sequences& sequences) {
  const PoolKind parsed = parse_kind(kind);
  check_activations("pool", "x", x);
  check_rank("pool", "x", x, 2);
  check_rows("pool", "sequences", sequences, x);
  const Shape shape = {sequences.size(), x.dim(1)};
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  std::optional<Tensor> places;
  if (parsed == PoolKind::max) places = Tensor::empty(shape, DType::float32, x.device());
  kernels(x).pool_forward({.x = x.raw(),
                           .y = y.raw(),
                           .places = data_or_null(places),
                           .features = x.dim(1),
                           .dtype = x.dtype(),
                           .kind = parsed,
                           .sequences = sequences.view(x.device())});
  return {y, places};
}

Tensor pool_backward(const std::string& kind, const Tensor& dy, const std::optional<Tensor>& places,
                     const Sequences& sequences) {
  const PoolKind parsed = parse_kind(kind);
  check_activations("pool_backward", "dy", dy);
  check_rank("pool_backward", "dy", dy, 2);
  const Shape shape = {sequences.size(), dy.dim(1)};
  check_shape("pool_backward", "dy", dy, shape);
  CHECK(places.has_value() == (parsed == PoolKind::max), "pool_backward: places must be given for max alone");
  if (places) {
    check_dtype("pool_backward", "places", *places, DType::float32);
    check_shape("pool_backward", "places", *places, shape);
  }
  const Tensor dx = Tensor::empty({sequences.capacity(), dy.dim(1)}, dy.dtype(), dy.device());
  kernels(dy).pool_backward({.dy = dy.raw(),
                             .places = data_or_null(places),
                             .dx = dx.raw(),
                             .features = dy.dim(1),
                             .dtype = dy.dtype(),
                             .kind = parsed,
                             .sequences = sequences.view(dy.device())});
  return dx;
}

}  // namespace dragoman
