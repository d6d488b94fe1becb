#include "ops/rotary.h"

#include "core/backend.h"
#include "ops/embedding.h"

namespace dragoman {

Tensor rotary(const Tensor& x, const Tensor& table, const std::optional<Tensor>& starts, int64_t head_dim,
              bool inverse, const Sequences& sequences) {
  check_activations("rotary", "x", x);
  CHECK(x.rank() == 2 || x.rank() == 3, "rotary: x must have 2 or 3 dimensions, got shape ", x.shape());
  CHECK(head_dim > 0 && x.dim(-1) % head_dim == 0 && (x.rank() == 2 || x.dim(-1) == head_dim),
        "rotary: head_dim must divide the columns of x, or be its last axis of three, got ", head_dim,
        " for shape ", x.shape());
  check_rows("rotary", "sequences", sequences, x);
  check_dtype("rotary", "table", table, DType::float32);
  check_rank("rotary", "table", table, 2);
  const int64_t features = table.dim(1);
  CHECK(features % 2 == 0 && features <= head_dim,
        "rotary: table must have an even number of columns, at most head_dim ", head_dim, ", got shape ",
        table.shape());
  const std::optional<Tensor> first_positions = checked_starts("rotary", starts, sequences);
  check_positions("rotary", "table", table.dim(0), first_positions, sequences);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const std::optional<Tensor> device_starts = to_device(first_positions, x.device());
  kernels(x).rotary({.x = x.raw(),
                     .y = y.raw(),
                     .table = table.data<float>(),
                     .starts = data_or_null<int32_t>(device_starts),
                     .num_heads = (x.rank() == 3 ? x.dim(1) : x.dim(1) / head_dim),
                     .head_dim = head_dim,
                     .features = features,
                     .inverse = inverse,
                     .dtype = x.dtype(),
                     .sequences = sequences.view(x.device())});
  return y;
}

}  // namespace dragoman
