// What a search asks of a model: rows of logits. A row belongs to one hypothesis.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/tensor.h"

namespace dragoman {

// What a request brings.
struct Entry {
  std::vector<int32_t> source;  // ids that the encoder reads; empty for a decoder-only model
  std::vector<int32_t> prefix;  // ids that the decoder reads first: start ids and a forced prefix, or the
                                // prompt; at least one
  int64_t place = 0;            // among all requests: where the adapter stands that a batch chose for it
  // The encoder's output, (rows, features), of a caller that has run the encoder; `source` is empty then.
  std::optional<Tensor> memory = std::nullopt;
};

class Steps {
 public:
  virtual ~Steps() = default;
  // Adds a row for each entry after the rows that are there. Returns the logits of the token after each
  // prefix, (entries, vocabulary) float32, which the caller may overwrite.
  virtual Tensor add(const std::vector<Entry>& entries) = 0;
  // Row i of the new rows goes on from row parents[i] by the token ids[i] and belongs to the same source.
  // Rows that none goes on from leave; their memory is freed. Rows of an entry stay beside each other, and
  // entries keep their order. Returns the logits of the next token, (rows, vocabulary) float32, which the
  // caller may overwrite. ids may be empty: all rows leave.
  virtual Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) = 0;
  // Whether the calls that follow keep where each row looks. Throws where a model cannot say.
  virtual void keep_attention(bool kept) = 0;
  // How much each row of the last add or next looks at each token of its source when it chooses the next
  // token; adds up to 1. Of calls that keep it.
  virtual std::vector<std::vector<float>> attention() = 0;
  // The calls that follow need the logits of these tokens alone: others may be -inf. Empty: of all tokens.
  virtual void narrow(const std::vector<int32_t>& tokens) = 0;
};

}  // namespace dragoman
