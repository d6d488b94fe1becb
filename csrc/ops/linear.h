// linear: y = dropout(activation(x W^T + bias)), the weight (out_features, in_features) as in PyTorch.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"
#include "ops/activation.h"

namespace dragoman {

struct PackWeight {
  const void* weight;  // (rows, in_features): rows of the whole weight (out_features, in_features)
  void* packed;        // packed_weight_size bytes for the whole weight, in the backend's own order
  int64_t in_features, out_features;
  int64_t first_row, rows;  // rows [first_row, first_row + rows) are packed
  DType dtype;              // of weight: float32, bfloat16 or int8
};

struct LinearForward {
  const void* x;       // (rows, in_features)
  const void* weight;  // (out_features, in_features)
  const void* packed;  // weight as pack_weight wrote it, read instead of weight, or null
  const float* bias;   // (out_features,) or null
  void* y;             // (rows, out_features)
  void* pre;           // (rows, out_features) or null: x W^T + bias, kept for GELU's backward
  Rows rows;
  int64_t in_features, out_features;
  DType dtype;  // of x, weight, y, pre, saved, dy and dx
  Activation activation;
  Dropout dropout;
};

struct LinearBackward {
  const void* dy;      // (rows, out_features)
  const void* x;       // (rows, in_features)
  const void* weight;  // (out_features, in_features)
  const void* saved;   // (rows, out_features): y for ReLU, pre for GELU, else null
  void* dx;            // (rows, in_features) or null: not wanted
  float* dweight;      // (out_features, in_features) or null
  float* dbias;        // (out_features,) or null
  Rows rows;
  int64_t in_features, out_features;
  DType dtype;  // of x, weight, y, pre, saved, dy and dx
  Activation activation;
  Dropout dropout;
  bool accumulate_weight, accumulate_bias;  // add to dweight, dbias instead of overwriting them
};

// A copy of weight in the order in which linear_forward and frozen_linear read it: faster, above all for few
// rows. int8 is for frozen_linear alone. The order depends on the backend, so it must not be saved. uint8
// (packed_weight_size,), `out` where it is given; absent where the backend keeps none.
std::optional<Tensor> pack_weight(const Tensor& weight, const std::optional<Tensor>& out = std::nullopt);
// Packs some rows of a weight `shape` into `packed`, from row `first` on. `first` is a multiple of 64, and so
// is their number, unless they are the last ones. Parts of all rows give what pack_weight gives.
void pack_rows(const Tensor& rows, int64_t first, const Shape& shape, const Tensor& packed);
// Bytes of such a copy of a weight (rows, columns) on a device; 0 where the backend keeps none.
int64_t packed_weight_size(const Shape& shape, DType dtype, Device device);

// Returns y and, for GELU, pre. `packed`, of the same weight, changes no bit.
std::tuple<Tensor, std::optional<Tensor>> linear_forward(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const std::string& activation,
    const Dropout& dropout, const std::optional<Sequences>& sequences, const std::optional<Tensor>& packed);

// Returns dx if need_dx; writes dweight and dbias where given.
std::optional<Tensor> linear_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                      const std::optional<Tensor>& saved, const std::string& activation,
                                      const Dropout& dropout, bool need_dx,
                                      const std::optional<Tensor>& dweight, bool accumulate_weight,
                                      const std::optional<Tensor>& dbias, bool accumulate_bias,
                                      const std::optional<Sequences>& sequences);

}  // namespace dragoman
