// pool: the rows of each sequence become one row: their mean, their largest values, the first or the last.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

enum class PoolKind { mean, max, first, last };

struct PoolForward {
  const void* x;  // (capacity, features)
  void* y;        // (num_sequences, features); 0 for a sequence without rows
  float* places;  // (num_sequences, features), for max: the row of the first maximum, counted in its sequence
  int64_t features;
  DType dtype;  // of x and y
  PoolKind kind;
  SequencesView sequences;
};

struct PoolBackward {
  const void* dy;       // (num_sequences, features)
  const float* places;  // as forward wrote them, for max
  void* dx;             // (capacity, features), overwritten; 0 in rows that are not in use
  int64_t features;
  DType dtype;  // of dy and dx
  PoolKind kind;
  SequencesView sequences;
};

// kind "mean", "max", "first" or "last". Returns y and, for max, the places.
std::tuple<Tensor, std::optional<Tensor>> pool_forward(const std::string& kind, const Tensor& x,
                                                       const Sequences& sequences);
Tensor pool_backward(const std::string& kind, const Tensor& dy, const std::optional<Tensor>& places,
                     const Sequences& sequences);

}  // namespace dragoman
