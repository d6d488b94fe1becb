// cross_entropy: mean over the targets of -log softmax(logits)[id], with label smoothing (Szegedy et al.
// 2016): the target distribution is (1 - smoothing) on the id plus smoothing / vocabulary everywhere. An id
// of -1 is no target.
#pragma once

#include <optional>
#include <tuple>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// Logits are read once: both losses also compute the gradients, for an upstream gradient of 1. Each
// backend adds the rows' losses in a fixed order.
struct CrossEntropyForward {
  const void* logits;  // (rows, vocabulary)
  int64_t logits_row;  // elements from a row of logits, and of dlogits, to the next
  const int32_t* ids;  // (rows,) -1: no target
  float* loss;         // (1,) factor * the sum of row_loss
  float* row_loss;     // (rows,) 0 where there is no target
  float* softmax;      // (rows, 2) or null: softmax(x) = exp(x - softmax[0]) / softmax[1]
  void* dlogits;       // (rows, vocabulary) or null; may be logits
  DType dtype;         // of logits and dlogits
  Rows rows;
  int64_t vocabulary;
  float smoothing;
  const float* factor;  // (1,) 1 / number of targets, or 0 without any
};

// Projection and loss in chunks of rows: the whole logits matrix never exists.
struct LinearCrossEntropyForward {
  const void* x;       // (rows, features)
  const void* weight;  // (vocabulary, features)
  const float* bias;   // (vocabulary,) or null
  const int32_t* ids;  // (rows,)
  float* loss;         // (1,)
  float* row_loss;     // (rows,)
  void* dx;            // (rows, features) or null
  float* dweight;      // (vocabulary, features) or null
  float* dbias;        // (vocabulary,) or null
  void* logits;        // (chunk_rows, logits_row) scratch memory
  int64_t chunk_rows;  // rows whose logits exist at a time
  int64_t logits_row;  // elements, at least vocabulary
  DType dtype;         // of x, weight, logits and dx
  Rows rows;
  int64_t features, vocabulary;
  float smoothing;
  const float* factor;  // (1,)
};

// num_targets: the sum is divided by it. Where absent: the number of ids >= 0 among the rows in use.
// Returns loss (), softmax (rows, 2) with softmax(x) = exp(x - softmax[0]) / softmax[1], and dlogits where
// wanted.
std::tuple<Tensor, Tensor, std::optional<Tensor>> cross_entropy_forward(
    const Tensor& logits, const Tensor& ids, double smoothing, std::optional<int64_t> num_targets,
    bool need_dlogits, const std::optional<Sequences>& sequences);

// Returns loss (), dx, dweight, dbias: the gradients where wanted.
std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>, std::optional<Tensor>>
linear_cross_entropy_forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                             const Tensor& ids, double smoothing, std::optional<int64_t> num_targets,
                             bool need_dx, bool need_dweight, bool need_dbias,
                             const std::optional<Sequences>& sequences);

}  // namespace dragoman
