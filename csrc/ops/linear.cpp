#include "ops/linear.h"

#include "core/backend.h"
#include "ops/dropout.h"

namespace dragoman {

namespace {

// x (rows, in_features) and weight (out_features, in_features), of one dtype.
void check_operands(const char* op, const Tensor& x, const Tensor& weight) {
  check_activations(op, "x", x);
  CHECK_TYPE(weight.dtype() == x.dtype(), op, ": weight must be ", x.dtype(), " like x, got ",
             weight.dtype());
  check_rank(op, "x", x, 2);
  check_rank(op, "weight", weight, 2);
  CHECK(weight.dim(1) == x.dim(1), op, ": weight must have shape (out_features, ", x.dim(1), "), got ",
        weight.shape());
}

int64_t packed_size_of(const Tensor& weight) {
  return packed_weight_size(weight.shape(), weight.dtype(), weight.device());
}

void check_packable(const char* op, const char* argument, const Tensor& weight) {
  constexpr int64_t longest = 65536;  // 255 * 128 * longest still fits in int32
  const DType dtype = weight.dtype();
  CHECK_TYPE(dtype == DType::float32 || dtype == DType::bfloat16 || dtype == DType::int8, op, ": ", argument,
             " must be float32, bfloat16 or int8, got ", dtype);
  check_rank(op, argument, weight, 2);
  CHECK(dtype != DType::int8 || weight.dim(1) <= longest, op, ": ", argument, " may have at most ", longest,
        " columns in int8, got ", weight.dim(1));
}

}  // namespace

int64_t packed_weight_size(const Shape& shape, DType dtype, Device device) {
  CHECK(shape.size() == 2 && shape[0] >= 0 && shape[1] >= 0,
        "pack_weight: shape must be (rows, columns), got ", shape);
  return kernels(device).packed_weight_size({.weight = nullptr,
                                             .packed = nullptr,
                                             .in_features = shape[1],
                                             .out_features = shape[0],
                                             .first_row = 0,
                                             .rows = shape[0],
                                             .dtype = dtype});
}

std::optional<Tensor> pack_weight(const Tensor& weight, const std::optional<Tensor>& out) {
  check_packable("pack_weight", "weight", weight);
  const int64_t nbytes = packed_size_of(weight);
  if (nbytes == 0) return std::nullopt;
  if (out) {
    check_dtype("pack_weight", "out", *out, DType::uint8);
    check_shape("pack_weight", "out", *out, {nbytes});
  }
  const Tensor packed = out ? *out : Tensor::empty({nbytes}, DType::uint8, weight.device());
  kernels(weight).pack_weight({.weight = weight.raw(),
                               .packed = packed.raw(),
                               .in_features = weight.dim(1),
                               .out_features = weight.dim(0),
                               .first_row = 0,
                               .rows = weight.dim(0),
                               .dtype = weight.dtype()});
  return packed;
}

void pack_rows(const Tensor& rows, int64_t first, const Shape& shape, const Tensor& packed) {
  constexpr const char* op = "pack_rows";
  constexpr int64_t step = 64;  // whole panels on every instruction set
  check_packable(op, "rows", rows);
  const int64_t nbytes = packed_weight_size(shape, rows.dtype(), packed.device());
  check_dtype(op, "packed", packed, DType::uint8);
  check_shape(op, "packed", packed, {nbytes});
  CHECK(first >= 0 && first % step == 0 && first + rows.dim(0) <= shape[0] &&
            (rows.dim(0) % step == 0 || first + rows.dim(0) == shape[0]),
        op, ": first and the number of rows must be multiples of ", step, " up to ", shape[0], ", got ",
        first, " and ", rows.dim(0));
  check_shape(op, "rows", rows, {rows.dim(0), shape[1]});
  kernels(packed).pack_weight({.weight = rows.raw(),
                               .packed = packed.raw(),
                               .in_features = shape[1],
                               .out_features = shape[0],
                               .first_row = first,
                               .rows = rows.dim(0),
                               .dtype = rows.dtype()});
}

std::tuple<Tensor, std::optional<Tensor>> linear_forward(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const std::string& activation,
    const Dropout& dropout, const std::optional<Sequences>& sequences, const std::optional<Tensor>& packed) {
  check_operands("linear", x, weight);
  if (packed) {
    check_dtype("linear", "packed", *packed, DType::uint8);
    check_shape("linear", "packed", *packed, {packed_size_of(weight)});
  }
  if (bias) {
    check_dtype("linear", "bias", *bias, DType::float32);
    check_shape("linear", "bias", *bias, {weight.dim(0)});
  }
  const Activation kind = parse_activation("linear", activation);
  check_mask_size("linear", dropout, x.dim(0), weight.dim(0));
  const Rows rows = rows_of("linear", sequences, x);
  const Tensor y = Tensor::empty({x.dim(0), weight.dim(0)}, x.dtype(), x.device());
  std::optional<Tensor> pre;
  if (kind > Activation::relu) pre = Tensor::empty(y.shape(), x.dtype(), x.device());
  kernels(x).linear_forward({.x = x.raw(),
                             .weight = weight.raw(),
                             .packed = data_or_null<void>(packed),
                             .bias = data_or_null(bias),
                             .y = y.raw(),
                             .pre = data_or_null<void>(pre),
                             .rows = rows,
                             .in_features = x.dim(1),
                             .out_features = weight.dim(0),
                             .dtype = x.dtype(),
                             .activation = kind,
                             .dropout = dropout});
  return {y, pre};
}

std::optional<Tensor> linear_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                      const std::optional<Tensor>& saved, const std::string& activation,
                                      const Dropout& dropout, bool need_dx,
                                      const std::optional<Tensor>& dweight, bool accumulate_weight,
                                      const std::optional<Tensor>& dbias, bool accumulate_bias,
                                      const std::optional<Sequences>& sequences) {
  constexpr const char* op = "linear_backward";
  check_operands(op, x, weight);
  const Shape y_shape{x.dim(0), weight.dim(0)};
  check_dtype(op, "dy", dy, x.dtype());
  check_shape(op, "dy", dy, y_shape);
  const Activation kind = parse_activation(op, activation);
  check_mask_size(op, dropout, x.dim(0), weight.dim(0));
  CHECK(saved || kind == Activation::none, op, ": saved must be given for activation \"", activation, "\"");
  if (saved) {
    check_dtype(op, "saved", *saved, x.dtype());
    check_shape(op, "saved", *saved, y_shape);
  }
  if (dweight) check_output(op, "dweight", *dweight, weight.shape());
  if (dbias) check_output(op, "dbias", *dbias, {weight.dim(0)});
  const Rows rows = rows_of(op, sequences, x);
  std::optional<Tensor> dx;
  if (need_dx) dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::optional<Tensor>
      scratch;  // the kernel's own, for dy before the activation: a rehearsal runs no kernel
  if (Rehearsal::standing() && (kind != Activation::none || dropout.threshold != 0))
    scratch = Tensor::empty(y_shape, x.dtype(), x.device());
  kernels(x).linear_backward({.dy = dy.raw(),
                              .x = x.raw(),
                              .weight = weight.raw(),
                              .saved = data_or_null<void>(saved),
                              .dx = data_or_null<void>(dx),
                              .dweight = data_or_null(dweight),
                              .dbias = data_or_null(dbias),
                              .rows = rows,
                              .in_features = x.dim(1),
                              .out_features = weight.dim(0),
                              .dtype = x.dtype(),
                              .activation = kind,
                              .dropout = dropout,
                              .accumulate_weight = accumulate_weight,
                              .accumulate_bias = accumulate_bias});
  return dx;
}

}  // namespace dragoman
