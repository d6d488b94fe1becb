// One def per op. No logic: arguments are converted, the GIL is released, and the call goes through its
// record.
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "core/program.h"
#include "ops/ops.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

namespace {

template <class Result, class... Arguments, class... Names>
void def_op(py::module_& m, const char* name, Result (*function)(Arguments...), const Names&... names) {
  auto* op =
      new Op<Result, Arguments...>(name, std::vector<std::string>{names.name...},
                                   function);  // recorded Programs refer to it: it lives with the process
  m.def(
      name, [op](Arguments... arguments) { return (*op)(arguments...); }, py::call_guard<ReleaseGil>(),
      names...);
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  return x.reshape(shape);
}

Tensor to(const Tensor& x, const std::string& device) {
  return x.to(parse_device("to", device));
}

}  // namespace

void bind_ops(py::module_& m) {
  def_op(m, "reshape", reshape, "x"_a, "shape"_a);
  def_op(m, "to", to, "x"_a, "device"_a);
  def_op(m, "pack_weight", pack_weight, "weight"_a, "out"_a = py::none());
  def_op(m, "pack_rows", pack_rows, "rows"_a, "first"_a, "shape"_a, "packed"_a);
  def_op(m, "linear_forward", linear_forward, "x"_a, "weight"_a, "bias"_a, "activation"_a, "dropout"_a,
         "sequences"_a, "packed"_a = py::none());
  def_op(m, "linear_backward", linear_backward, "dy"_a, "x"_a, "weight"_a, "saved"_a, "activation"_a,
         "dropout"_a, "need_dx"_a, "dweight"_a, "accumulate_weight"_a, "dbias"_a, "accumulate_bias"_a,
         "sequences"_a);
  def_op(m, "quantize_rows", quantize_rows, "weight"_a);
  def_op(m, "unpack_weight", unpack_weight, "packed"_a, "dtype"_a, "shape"_a);
  def_op(m, "frozen_linear", frozen_linear, "x"_a, "packed"_a, "dtype"_a, "shape"_a, "scales"_a, "bias"_a,
         "activation"_a, "sequences"_a);
  def_op(m, "activation_forward", activation_forward, "x"_a, "activation"_a, "sequences"_a);
  def_op(m, "activation_backward", activation_backward, "dy"_a, "x"_a, "activation"_a, "sequences"_a);
  def_op(m, "gate_forward", gate_forward, "a"_a, "b"_a, "activation"_a, "dropout"_a, "sequences"_a);
  def_op(m, "gate_backward", gate_backward, "dy"_a, "a"_a, "b"_a, "activation"_a, "dropout"_a, "sequences"_a);
  def_op(m, "attention_forward", attention_forward, "q"_a, "k"_a, "v"_a, "q_sequences"_a, "k_sequences"_a,
         "options"_a, "bias"_a = py::none(), "relative_keys"_a = py::none(),
         "relative_values"_a = py::none());
  def_op(m, "attention_backward", attention_backward, "dout"_a, "q"_a, "k"_a, "v"_a, "out"_a, "logsumexp"_a,
         "q_sequences"_a, "k_sequences"_a, "options"_a, "bias"_a = py::none(), "relative_keys"_a = py::none(),
         "relative_values"_a = py::none(), "dbias"_a = py::none(), "accumulate_bias"_a = false,
         "drelative_keys"_a = py::none(), "accumulate_keys"_a = false, "drelative_values"_a = py::none(),
         "accumulate_values"_a = false);
  def_op(m, "layer_norm_forward", layer_norm_forward, "x"_a, "weight"_a, "bias"_a, "eps"_a, "sequences"_a);
  def_op(m, "layer_norm_backward", layer_norm_backward, "dy"_a, "x"_a, "weight"_a, "mean"_a, "rstd"_a,
         "dweight"_a, "accumulate_weight"_a, "dbias"_a, "accumulate_bias"_a, "sequences"_a);
  def_op(m, "rms_norm_forward", rms_norm_forward, "x"_a, "weight"_a, "eps"_a, "sequences"_a);
  def_op(m, "rms_norm_backward", rms_norm_backward, "dy"_a, "x"_a, "weight"_a, "rstd"_a, "dweight"_a,
         "accumulate_weight"_a, "sequences"_a);
  def_op(m, "residual_norm_forward", residual_norm_forward, "x"_a, "residual"_a, "weight"_a, "bias"_a,
         "dropout"_a, "eps"_a, "centred"_a, "sequences"_a);
  def_op(m, "residual_norm_backward", residual_norm_backward, "dy"_a, "sum"_a, "weight"_a, "mean"_a, "rstd"_a,
         "dropout"_a, "dweight"_a, "accumulate_weight"_a, "dbias"_a, "accumulate_bias"_a, "sequences"_a);
  def_op(m, "residual_forward", residual_forward, "x"_a, "residual"_a, "dropout"_a, "sequences"_a);
  def_op(m, "dropout_forward", dropout_forward, "x"_a, "dropout"_a, "sequences"_a);
  def_op(m, "dropout_backward", dropout_backward, "dy"_a, "dropout"_a, "sequences"_a);
  def_op(m, "embedding_forward", embedding_forward, "ids"_a, "weight"_a, "positions"_a, "starts"_a, "scale"_a,
         "dropout"_a, "sequences"_a, "dtype"_a);
  def_op(m, "embedding_backward", embedding_backward, "dy"_a, "ids"_a, "starts"_a, "scale"_a, "dropout"_a,
         "sequences"_a, "dweight"_a, "accumulate_weight"_a, "dpositions"_a, "accumulate_positions"_a);
  def_op(m, "frozen_embedding", frozen_embedding, "ids"_a, "packed"_a, "dtype"_a, "shape"_a, "scales"_a,
         "positions"_a, "starts"_a, "scale"_a, "sequences"_a);
  def_op(m, "rotary", rotary, "x"_a, "table"_a, "starts"_a, "head_dim"_a, "inverse"_a, "sequences"_a);
  def_op(m, "binary_forward", binary_forward, "kind"_a, "a"_a, "b"_a, "number"_a = 0.0);
  def_op(m, "binary_backward", binary_backward, "kind"_a, "of_b"_a, "dy"_a, "a"_a, "b"_a, "number"_a,
         "shape"_a, "dtype"_a);
  def_op(m, "unary_forward", unary_forward, "kind"_a, "x"_a);
  def_op(m, "unary_backward", unary_backward, "kind"_a, "dy"_a, "saved"_a);
  def_op(m, "accumulate", accumulate, "y"_a, "x"_a, "factor"_a, "accumulate"_a);
  def_op(m, "scale_by", scale_by, "y"_a, "factor"_a);
  def_op(m, "cast", cast, "x"_a, "dtype"_a);
  def_op(m, "cast_into", cast_into, "x"_a, "y"_a);
  def_op(m, "reduce_forward", reduce_forward, "kind"_a, "x"_a, "axis"_a, "keepdims"_a);
  def_op(m, "reduce_backward", reduce_backward, "kind"_a, "dy"_a, "shape"_a, "axis"_a);
  def_op(m, "gather_forward", gather_forward, "x"_a, "ids"_a);
  def_op(m, "gather_backward", gather_backward, "dy"_a, "ids"_a, "shape"_a);
  def_op(m, "pool_forward", pool_forward, "kind"_a, "x"_a, "sequences"_a);
  def_op(m, "pool_backward", pool_backward, "kind"_a, "dy"_a, "places"_a, "sequences"_a);
  def_op(m, "slice_forward", slice_forward, "x"_a, "axis"_a, "begin"_a, "end"_a);
  def_op(m, "slice_backward", slice_backward, "dy"_a, "shape"_a, "axis"_a, "begin"_a);
  def_op(m, "concat_forward", concat_forward, "a"_a, "b"_a, "c"_a, "d"_a, "axis"_a);
  def_op(m, "softmax_forward", softmax_forward, "x"_a);
  def_op(m, "softmax_backward", softmax_backward, "dy"_a, "y"_a);
  def_op(m, "top_k", top_k, "logits"_a, "k"_a);
  def_op(m, "matmul", matmul, "a"_a, "b"_a, "transpose_a"_a, "transpose_b"_a, "dtype"_a);
  def_op(m, "transpose", transpose, "x"_a);
  def_op(m, "cross_entropy_forward", cross_entropy_forward, "logits"_a, "ids"_a, "smoothing"_a,
         "num_targets"_a, "need_dlogits"_a, "sequences"_a);
  def_op(m, "linear_cross_entropy_forward", linear_cross_entropy_forward, "x"_a, "weight"_a, "bias"_a,
         "ids"_a, "smoothing"_a, "num_targets"_a, "need_dx"_a, "need_dweight"_a, "need_dbias"_a,
         "sequences"_a);
  def_op(m, "adamw_step", adamw_step, "parameters"_a, "gradients"_a, "mean"_a, "variance"_a, "shadow"_a,
         "bounds"_a, "lr_scale"_a, "weight_decay"_a, "lr"_a, "norm"_a, "step"_a, "beta1"_a, "beta2"_a,
         "eps"_a, "max_norm"_a);
  def_op(m, "gradient_norm", gradient_norm, "gradients"_a);
  m.def("square_sums", square_sums, "gradients"_a, py::call_guard<ReleaseGil>());
  m.def("norm_of_sums", norm_of_sums, "sums"_a, "device"_a, py::call_guard<ReleaseGil>());
  def_op(m, "moving_average", moving_average, "average"_a, "x"_a, "gain"_a);
  def_op(m, "kv_cache_extend", kv_cache_extend, "cache"_a, "new_sequences"_a);
  def_op(m, "kv_cache_append", kv_cache_append, "cache"_a, "attention"_a, "k"_a, "v"_a, "new_sequences"_a);
  def_op(m, "kv_cache_set_memory", kv_cache_set_memory, "cache"_a, "attention"_a, "k"_a, "v"_a);
  def_op(m, "kv_cache_memory", kv_cache_memory, "cache"_a, "attention"_a);
  def_op(m, "kv_cache_starts", kv_cache_starts, "cache"_a, "new_sequences"_a = py::none());
  def_op(m, "kv_cache_sources", kv_cache_sources, "cache"_a, "sequences"_a = py::none());
  def_op(m, "kv_cache_reorder", kv_cache_reorder, "cache"_a, "indices"_a);
  def_op(m, "kv_cache_join", kv_cache_join, "cache"_a, "other"_a);
}

}  // namespace dragoman
