// rotary: turns pairs of features of queries and keys by angles that grow with the position (Su et al. 2021,
// RoFormer, arXiv:2104.09864). In the first `features` of each head, feature i and feature i + features / 2
// are a pair; the other features of a head stay as they are.
#pragma once

#include <optional>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// y_i = x_i cos - x_j sin and y_j = x_j cos + x_i sin for j = i + features / 2. The gradient is the turn
// back.
struct Rotary {
  const void* x;          // (rows, num_heads, head_dim)
  void* y;                // (rows, num_heads, head_dim)
  const float* table;     // (max_positions, features): cosines of the pairs, then their sines
  const int32_t* starts;  // (num_sequences,) or null: position of each sequence's first row
  int64_t num_heads, head_dim, features;
  bool inverse;  // turns back
  DType dtype;   // of x and y
  SequencesView sequences;
};

// x (rows, num_heads * head_dim) or (rows, num_heads, head_dim). The position of a row is its place in its
// sequence plus the sequence's start.
Tensor rotary(const Tensor& x, const Tensor& table, const std::optional<Tensor>& starts, int64_t head_dim,
              bool inverse, const Sequences& sequences);

}  // namespace dragoman
