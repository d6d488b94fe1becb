// top_k: the largest logits of each row, and what turns them into log probabilities.
#pragma once

#include <cstdint>
#include <tuple>

#include "core/tensor.h"

namespace dragoman {

struct TopK {
  const float* logits;  // (rows, vocabulary)
  int32_t* ids;         // (rows, k): columns of the k largest, the largest first, equal ones in column order
  float* values;        // (rows, k): logits of `ids`
  float* softmax;       // (rows, 2): maximum, and sum of exp(x - maximum)
  int64_t rows, vocabulary;
  int64_t k;  // in [1, vocabulary]
};
// A row with NaN or +inf has the sum NaN, and unspecified ids in [0, vocabulary) and values. A row of -inf
// alone has the sum 0.

// ids, values and softmax of float32 logits (rows, vocabulary); of all columns where k is more. So log p of
// column j is logits[j] - maximum - log(sum).
std::tuple<Tensor, Tensor, Tensor> top_k(const Tensor& logits, int64_t k);

}  // namespace dragoman
