// Frozen weights: those of a model that is trained no more. A product and a lookup read the same copy, packed
// in the backend's own order: int8 with a scale for each row, bfloat16 or float32. Activations are float32.
//
// With int8, a row of activations is rounded to 127 steps on either side of 0 each time (Dettmers et al.
// 2022, arXiv:2208.07339, section 2), and sums are exact in int32. With bfloat16, activations are rounded to
// it.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "core/sequences.h"
#include "core/tensor.h"
#include "ops/activation.h"

namespace dragoman {

struct QuantizeRows {
  const float* weight;  // (rows, columns)
  int8_t* values;       // (rows, columns)
  float* scales;        // (rows,), NaN for a row with an infinity or a NaN
  int64_t rows, columns;
};

struct UnpackWeight {
  const void* packed;  // as pack_weight wrote it
  void* weight;        // (out_features, in_features)
  int64_t in_features, out_features;
  DType dtype;  // of weight: float32, bfloat16 or int8
};

struct FrozenLinear {
  const float* x;       // (rows, in_features)
  const void* packed;   // the weight (out_features, in_features) as pack_weight wrote it
  const float* scales;  // (out_features,), what int8 is multiplied by; null for other dtypes
  const float* bias;    // (out_features,) or null
  float* y;             // (rows, out_features)
  Rows rows;
  int64_t in_features, out_features;
  DType dtype;  // of the weight: float32, bfloat16 or int8
  Activation activation;
};

struct FrozenEmbedding {
  const int32_t* ids;      // (rows,)
  const void* packed;      // the table (vocabulary, features) as pack_weight wrote it
  const float* scales;     // (vocabulary,), what int8 is multiplied by; null for other dtypes
  const float* positions;  // (max_positions, features) or null
  const int32_t* starts;   // (num_sequences,) or null: position of each sequence's first row
  float* y;                // (rows, features)
  int64_t features, vocabulary;
  DType dtype;  // of the table: float32, bfloat16 or int8
  float scale;
  SequencesView sequences;
};

// int8 values and a scale for each row of a weight (rows, columns) float32, which is about values * scales.
// Symmetric: the largest absolute value of a row becomes 127. A row below 1e-30 becomes zeros. ValueError for
// a value that is not finite. On the CPU alone.
std::tuple<Tensor, Tensor> quantize_rows(const Tensor& weight);

// The weight that pack_weight packed, of a dtype "float32", "bfloat16" or "int8".
Tensor unpack_weight(const Tensor& packed, const std::string& dtype, const Shape& shape);

// activation(x W^T + bias), with W packed, of `shape` (out_features, in_features) and `dtype`.
Tensor frozen_linear(const Tensor& x, const Tensor& packed, const std::string& dtype, const Shape& shape,
                     const std::optional<Tensor>& scales, const std::optional<Tensor>& bias,
                     const std::string& activation, const std::optional<Sequences>& sequences);

// As embedding_forward, with a packed table of `shape` (vocabulary, features) and `dtype`.
Tensor frozen_embedding(const Tensor& ids, const Tensor& packed, const std::string& dtype, const Shape& shape,
                        const std::optional<Tensor>& scales, const std::optional<Tensor>& positions,
                        const std::optional<Tensor>& starts, double scale, const Sequences& sequences);

}  // namespace dragoman
