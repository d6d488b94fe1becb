// embedding: y[t] = dropout(weight[ids[t]] * scale + positions[position of t]).
// The position of a row is its place in its sequence plus the sequence's `start` (the number of tokens that a
// KV cache holds).
#pragma once

#include <optional>
#include <string>

#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

struct EmbeddingForward {
  const int32_t* ids;      // (rows,)
  const float* weight;     // (vocabulary, features)
  const float* positions;  // (max_positions, features) or null
  const int32_t* starts;   // (num_sequences,) or null: position of each sequence's first row
  void* y;                 // (rows, features)
  int64_t features;
  DType dtype;  // of y
  float scale;
  Dropout dropout;
  SequencesView sequences;
};

struct EmbeddingBackward {
  const void* dy;         // (rows, features)
  const int32_t* ids;     // (rows,)
  const int32_t* starts;  // (num_sequences,) or null
  float* dweight;         // (vocabulary, features) or null
  float* dpositions;      // (max_positions, features) or null
  const int32_t* order;   // (rows in use,) the rows by their ids; null on the CPU and without dweight
  const int32_t* pieces;  // (num_pieces + 1,) stretches of order with one id each (ops/id_pieces.h)
  int64_t num_pieces;
  int64_t features, vocabulary, max_positions;
  DType dtype;  // of dy
  float scale;
  Dropout dropout;
  bool accumulate_weight, accumulate_positions;
  SequencesView sequences;
};

Tensor embedding_forward(const Tensor& ids, const Tensor& weight, const std::optional<Tensor>& positions,
                         const std::optional<Tensor>& starts, double scale, const Dropout& dropout,
                         const Sequences& sequences, const std::string& dtype);

// Writes dweight and dpositions where given. Adds in the order of the rows, for any number of threads.
void embedding_backward(const Tensor& dy, const Tensor& ids, const std::optional<Tensor>& starts,
                        double scale, const Dropout& dropout, const Sequences& sequences,
                        const std::optional<Tensor>& dweight, bool accumulate_weight,
                        const std::optional<Tensor>& dpositions, bool accumulate_positions);

// What an embedding looks up, checked, on `device`: ids of the rows in use, and starts.
struct EmbeddingInputs {
  Tensor ids;
  std::optional<Tensor> starts;
};
EmbeddingInputs checked_embedding_inputs(const Tensor& ids, const std::optional<Tensor>& positions,
                                         const std::optional<Tensor>& starts, const Sequences& sequences,
                                         int64_t vocabulary, int64_t features, Device device);

// Checks of positions, for every op with `starts` and a table of positions.
std::optional<Tensor> checked_starts(const char* op, const std::optional<Tensor>& starts,
                                     const Sequences& sequences);
void check_positions(const char* op, const char* argument, int64_t max_positions,
                     const std::optional<Tensor>& starts, const Sequences& sequences);

}  // namespace dragoman
