// Steps: what a search asks of a model, rows of logits. A row belongs to one live hypothesis.
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
  int64_t place = 0;            // the request's place among all, by which its adapter is found
  // The encoder's output, (rows, features), from a caller that has run the encoder. `source` is empty then.
  std::optional<Tensor> memory = std::nullopt;
};

class Steps {
 public:
  virtual ~Steps() = default;
  // Adds a row for each entry after the rows that are there. Returns the logits of the token after each
  // prefix, (entries, vocabulary) float32, which the caller may overwrite.
  virtual Tensor add(const std::vector<Entry>& entries) = 0;
  // One step. New row i continues old row parents[i] with the token ids[i]; it belongs to the same entry. An
  // old row that is no parent is dropped, and its memory is freed. The rows of an entry must stay beside each
  // other, and the entries in order. Returns the logits of the next token, (new rows, vocabulary) float32,
  // which the caller may overwrite. Empty ids drop all rows.
  virtual Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) = 0;
  // Whether the calls that follow keep the attention to the source, for attention(). Throws for a model that
  // cannot give it.
  virtual void keep_attention(bool kept) = 0;
  // The attention of the last add or next, where it was kept. For each row the weight of each token of its
  // source, (source tokens,), with sum 1.
  virtual std::vector<std::vector<float>> attention() = 0;
  // The calls that follow need only the logits of these tokens; the logits of others may be -inf. Empty: the
  // logits of all tokens.
  virtual void narrow(const std::vector<int32_t>& tokens) = 0;
};

}  // namespace dragoman
