#include "ops/frozen.h"

#include <algorithm>
#include <cmath>

#include "core/backend.h"
#include "ops/embedding.h"
#include "ops/linear.h"

namespace dragoman {

namespace {

DType parse_frozen_dtype(const char* op, const std::string& dtype) {
  for (const DType kind : {DType::float32, DType::bfloat16, DType::int8}) {
    if (dtype == name(kind)) return kind;
  }
  throw ValueError(concat(op, ": dtype must be float32, bfloat16 or int8, got ", dtype));
}

// Checks a packed weight of `shape`. Returns its dtype.
DType check_packed(const char* op, const Tensor& packed, const std::string& dtype, const Shape& shape) {
  const DType kind = parse_frozen_dtype(op, dtype);
  CHECK(shape.size() == 2 && shape[0] >= 0 && shape[1] >= 0, op, ": shape must be (rows, columns), got ",
        shape);
  check_dtype(op, "packed", packed, DType::uint8);
  check_shape(op, "packed", packed, {packed_weight_size(shape, kind, packed.device())});
  return kind;
}

// As check_packed, with a scale for each row where it is int8.
DType check_frozen(const char* op, const Tensor& packed, const std::string& dtype, const Shape& shape,
                   const std::optional<Tensor>& scales) {
  const DType kind = check_packed(op, packed, dtype, shape);
  CHECK(scales.has_value() == (kind == DType::int8), op, ": scales must be given for int8 alone");
  if (scales) {
    check_dtype(op, "scales", *scales, DType::float32);
    check_shape(op, "scales", *scales, {shape[0]});
  }
  return kind;
}

}  // namespace

std::tuple<Tensor, Tensor> quantize_rows(const Tensor& weight) {
  constexpr const char* op = "quantize";
  check_dtype(op, "weight", weight, DType::float32);
  check_rank(op, "weight", weight, 2);
  CHECK(weight.device() == cpu_device, op, ": weight must be on cpu, got ", name(weight.device()));
  const Tensor values = Tensor::empty(weight.shape(), DType::int8), scales = Tensor::empty({weight.dim(0)});
  kernels(weight).quantize_rows({.weight = weight.data<float>(),
                                 .values = values.data<int8_t>(),
                                 .scales = scales.data<float>(),
                                 .rows = weight.dim(0),
                                 .columns = weight.dim(1)});
  const float* scale = scales.data<float>();
  CHECK(Rehearsal::standing() ||
            std::none_of(scale, scale + weight.dim(0), [](float s) { return std::isnan(s); }),
        op, ": weight must be finite, got a value that is not");
  return {values, scales};
}

Tensor unpack_weight(const Tensor& packed, const std::string& dtype, const Shape& shape) {
  constexpr const char* op = "unpack_weight";
  const DType kind = check_packed(op, packed, dtype, shape);
  const Tensor weight = Tensor::empty(shape, kind, packed.device());
  kernels(packed).unpack_weight({.packed = packed.raw(),
                                 .weight = weight.raw(),
                                 .in_features = shape[1],
                                 .out_features = shape[0],
                                 .dtype = kind});
  return weight;
}

Tensor frozen_linear(const Tensor& x, const Tensor& packed, const std::string& dtype, const Shape& shape,
                     const std::optional<Tensor>& scales, const std::optional<Tensor>& bias,
                     const std::string& activation, const std::optional<Sequences>& sequences) {
  constexpr const char* op = "linear";
  const DType kind = check_frozen(op, packed, dtype, shape, scales);
  check_dtype(op, "x", x, DType::float32);
  check_rank(op, "x", x, 2);
  check_shape(op, "x", x, {x.dim(0), shape[1]});
  if (bias) {
    check_dtype(op, "bias", *bias, DType::float32);
    check_shape(op, "bias", *bias, {shape[0]});
  }
  const Rows rows = rows_of(op, sequences, x);
  const Tensor y = Tensor::empty({x.dim(0), shape[0]}, DType::float32, x.device());
  kernels(x).frozen_linear({.x = x.data<float>(),
                            .packed = packed.raw(),
                            .scales = data_or_null(scales),
                            .bias = data_or_null(bias),
                            .y = y.data<float>(),
                            .rows = rows,
                            .in_features = shape[1],
                            .out_features = shape[0],
                            .dtype = kind,
                            .activation = parse_activation(op, activation)});
  return y;
}

Tensor frozen_embedding(const Tensor& ids, const Tensor& packed, const std::string& dtype, const Shape& shape,
                        const std::optional<Tensor>& scales, const std::optional<Tensor>& positions,
                        const std::optional<Tensor>& starts, double scale, const Sequences& sequences) {
  constexpr const char* op = "embedding";
  const DType kind = check_frozen(op, packed, dtype, shape, scales);
  const EmbeddingInputs inputs =
      checked_embedding_inputs(ids, positions, starts, sequences, shape[0], shape[1], packed.device());
  const Tensor y = Tensor::empty({ids.dim(0), shape[1]}, DType::float32, packed.device());
  kernels(packed).frozen_embedding({.ids = inputs.ids.data<int32_t>(),
                                    .packed = packed.raw(),
                                    .scales = data_or_null(scales),
                                    .positions = data_or_null(positions),
                                    .starts = data_or_null<int32_t>(inputs.starts),
                                    .y = y.data<float>(),
                                    .features = shape[1],
                                    .vocabulary = shape[0],
                                    .dtype = kind,
                                    .scale = static_cast<float>(scale),
                                    .sequences = sequences.view(packed.device())});
  return y;
}

}  // namespace dragoman
