#include "core/sequences.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace dragoman {

namespace {

constexpr int64_t most_rows = std::numeric_limits<int32_t>::max();

std::vector<int64_t> checked_lengths(std::vector<int64_t> lengths) {
  int64_t tokens = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    CHECK(lengths[i] >= 0 && lengths[i] <= most_rows - tokens,
          "Sequences: lengths must be at least 0 and sum to at most ", most_rows, ", got ", lengths[i],
          " at position ", i);
    tokens += lengths[i];
  }
  return lengths;
}

std::vector<int64_t> running_sum(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
  return offsets;
}

Tensor to_int32(const std::vector<int64_t>& values) {
  Tensor tensor = Tensor::empty({static_cast<int64_t>(values.size())}, DType::int32);
  std::transform(values.begin(), values.end(), tensor.data<int32_t>(),
                 [](int64_t value) { return static_cast<int32_t>(value); });
  return tensor;
}

}  // namespace

Sequences::Sequences(std::vector<int64_t> lengths, const std::vector<int64_t>& offsets, int64_t capacity,
                     bool packed)
    : lengths_(std::move(lengths)),
      offsets_(to_int32(offsets)),
      device_lengths_(to_int32(lengths_)),
      tokens_(std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0})),
      capacity_(capacity),
      max_length_(lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end())),
      packed_(packed) {}

Sequences::Sequences(std::vector<int64_t> lengths, std::optional<int64_t> capacity,
                     std::optional<int64_t> max_length)
    : Sequences(checked_lengths(lengths), running_sum(lengths),
                capacity.value_or(std::accumulate(lengths.begin(), lengths.end(), int64_t{0})), true) {
  CHECK(capacity_ >= tokens_ && capacity_ <= most_rows, "Sequences: capacity must lie in [", tokens_, ", ",
        most_rows, "], got ", capacity_);
  const int64_t longest = max_length_;
  max_length_ = max_length.value_or(longest);
  CHECK(max_length_ >= longest && max_length_ <= most_rows, "Sequences: max_length must lie in [", longest,
        ", ", most_rows, "], got ", max_length_);
}

Sequences Sequences::slotted(std::vector<int64_t> lengths, int64_t slot) {
  const auto count = static_cast<int64_t>(lengths.size());
  CHECK(slot >= 0 && (count == 0 || slot <= most_rows / count), "Sequences: slot must lie in [0, ", most_rows,
        " / ", count, "], got ", slot);
  std::vector<int64_t> offsets(lengths.size() + 1);
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int64_t>(i) * slot;
  for (size_t i = 0; i < lengths.size(); ++i) {
    CHECK(lengths[i] >= 0 && lengths[i] <= slot, "Sequences: lengths must lie in [0, ", slot, "], got ",
          lengths[i], " at position ", i);
  }
  return Sequences(std::move(lengths), offsets, count * slot, false);
}

Sequences Sequences::select(const std::vector<int64_t>& indices) const {
  std::vector<int64_t> lengths;
  std::vector<int64_t> offsets;
  for (const int64_t index : indices) {
    CHECK(index >= 0 && index < size(), "Sequences.select: indices must lie in [0, ", size(), "), got ",
          index);
    lengths.push_back(lengths_[index]);
    offsets.push_back(offsets_.data<int32_t>()[index]);
  }
  offsets.push_back(capacity_);
  return Sequences(checked_lengths(std::move(lengths)), offsets, capacity_, false);
}

bool Sequences::operator==(const Sequences& other) const {
  return lengths_ == other.lengths_ && capacity_ == other.capacity_ &&
         std::equal(offsets_.data<int32_t>(), offsets_.data<int32_t>() + size(),
                    other.offsets_.data<int32_t>());
}

SequencesView Sequences::view() const {
  const int32_t* offsets = offsets_.data<int32_t>();
  const Rows rows{capacity_, packed_ ? tokens_ : capacity_, packed_ ? offsets + size() : nullptr};
  return {size(), offsets, device_lengths_.data<int32_t>(), rows, max_length_};
}

void check_rows(const char* op, const char* argument, const Sequences& sequences, const Tensor& tensor) {
  CHECK(sequences.packed(), op, ": ", argument, " must be packed, got a slotted or selected layout");
  CHECK(tensor.rank() > 0 && tensor.dim(0) == sequences.capacity(), op, ": ", argument,
        " must have capacity ", tensor.rank() > 0 ? tensor.dim(0) : 0, " (the rows of its tensor), got ",
        sequences.capacity());
}

Rows rows_of(const char* op, const std::optional<Sequences>& sequences, const Tensor& tensor) {
  if (!sequences) return {tensor.dim(0), tensor.dim(0), nullptr};
  check_rows(op, "sequences", *sequences, tensor);
  return sequences->view().rows;
}

}  // namespace dragoman
