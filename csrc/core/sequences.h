// Where each sequence of a ragged batch begins and how long it is.
//
// Packed (the usual case): the sequences lie end to end, `tokens` rows of `capacity`. The other layouts serve
// the KV cache: sequence i has its own region of a larger buffer, with room to grow or shared with other
// sequences; or, indexed, each of its rows lies anywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"

namespace dragoman {

// The rows of a kernel's buffers. The first ones are in use; kernels ignore the others in their inputs and
// write zeros there in their outputs. A buffer of shape (rows, features) has `capacity` rows.
struct Rows {
  int64_t capacity;       // rows of the buffers
  int64_t bound;          // upper bound of the rows in use, for sizes that the host must choose
  const int32_t* tokens;  // (1,) the rows in use, on the kernel's device; null: `bound` rows are in use
};

// A Sequences as a kernel sees it. All arrays live on the kernel's device.
struct SequencesView {
  int64_t num_sequences;
  const int32_t* offsets;  // (num_sequences,) first row of each sequence
  const int32_t* lengths;  // (num_sequences,) rows of each sequence
  Rows rows;               // of the buffers; all are in use where the layout is not packed
  int64_t max_length;      // at least the longest length
  // For an indexed layout, row j of sequence i is index[offsets[i] + j]. Else null.
  const int32_t* index = nullptr;
};

// Immutable. Copies share one layout.
class Sequences {
 public:
  // Packed. ValueError when a length is negative, capacity < sum(lengths) or max_length < the longest.
  explicit Sequences(std::vector<int64_t> lengths, std::optional<int64_t> capacity = std::nullopt,
                     std::optional<int64_t> max_length = std::nullopt);
  // Sequence i owns rows [i * slot, (i + 1) * slot). ValueError when a length exceeds the slot.
  static Sequences slotted(std::vector<int64_t> lengths, int64_t slot);
  // Sequence i begins at row offsets[i].
  static Sequences placed(std::vector<int64_t> lengths, std::vector<int64_t> offsets, int64_t capacity);
  // Each row lies anywhere: `rows` has the place of every row, sequence after sequence, (sum(lengths),).
  static Sequences indexed(std::vector<int64_t> lengths, std::vector<int32_t> rows, int64_t capacity);
  // Sequence i of the result reads the rows of sequence indices[i].
  Sequences select(const std::vector<int64_t>& indices) const;

  int64_t size() const { return static_cast<int64_t>(layout_->lengths.size()); }
  const std::vector<int64_t>& lengths() const { return layout_->lengths; }
  const std::vector<int64_t>& offsets() const { return layout_->offsets; }
  int64_t tokens() const { return layout_->tokens; }
  int64_t capacity() const { return layout_->capacity; }
  int64_t max_length() const { return layout_->max_length; }
  bool packed() const { return layout_->packed; }
  bool is_indexed() const { return layout_->index != nullptr; }
  // Row j of sequence i is (*index())[offsets()[i] + j]. Null for other layouts.
  const std::shared_ptr<const std::vector<int32_t>>& index() const { return layout_->index; }
  bool operator==(const Sequences& other) const;  // the same rows for the same sequences
  bool is(const Sequences& other) const { return layout_ == other.layout_; }  // a copy of the same object
  // The first call for a device uploads the arrays. They live as long as this layout.
  SequencesView view(Device device) const;

 private:
  struct Mirrors;  // the arrays on the devices that have asked for them
  struct Layout {
    std::vector<int64_t> lengths;
    std::vector<int64_t> offsets;  // (num_sequences + 1,): the last is `tokens`, or capacity if not packed
    int64_t tokens;                // sum of the lengths
    int64_t capacity, max_length;
    bool packed;
    std::shared_ptr<const std::vector<int32_t>> index;
    std::shared_ptr<Mirrors> mirrors;
  };
  Sequences(std::vector<int64_t> lengths, std::vector<int64_t> offsets, int64_t capacity, int64_t max_length,
            bool packed, std::shared_ptr<const std::vector<int32_t>> index = nullptr);

  std::shared_ptr<const Layout> layout_;
};

// ValueError unless sequences is packed and its capacity equals the rows of `tensor`.
void check_rows(const char* op, const char* argument, const Sequences& sequences, const Tensor& tensor);

// The rows of `tensor` for a row-wise op: those in use by `sequences`, checked by check_rows, or all of them.
Rows rows_of(const char* op, const std::optional<Sequences>& sequences, const Tensor& tensor);

}  // namespace dragoman
