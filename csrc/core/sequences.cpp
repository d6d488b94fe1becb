#include "core/sequences.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <numeric>

namespace dragoman {

namespace {

constexpr int64_t maximum_rows = std::numeric_limits<int32_t>::max();

std::vector<int64_t> checked_lengths(std::vector<int64_t> lengths) {
  int64_t tokens = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    CHECK(lengths[i] >= 0 && lengths[i] <= maximum_rows - tokens,
          "Sequences: lengths must be at least 0 and sum to at most ", maximum_rows, ", got ", lengths[i],
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

int64_t longest_of(const std::vector<int64_t>& lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

}  // namespace

// int32 (2 * num_sequences + 1 + rows of the index,) for each device: the offsets, the lengths, the index.
struct Sequences::Mirrors {
  std::mutex mutex;
  std::vector<Tensor> blocks;

  const int32_t* on(Device device, const Layout& layout) {
    const std::lock_guard lock(mutex);
    for (const Tensor& block : blocks) {
      if (block.device() == device) return block.data<int32_t>();
    }
    std::vector<int32_t> values(layout.offsets.begin(), layout.offsets.end());
    values.insert(values.end(), layout.lengths.begin(), layout.lengths.end());
    if (layout.index != nullptr) values.insert(values.end(), layout.index->begin(), layout.index->end());
    blocks.push_back(
        Tensor::from_host(values.data(), {static_cast<int64_t>(values.size())}, DType::int32, device));
    return blocks.back().data<int32_t>();
  }
};

Sequences::Sequences(std::vector<int64_t> lengths, std::vector<int64_t> offsets, int64_t capacity,
                     int64_t max_length, bool packed, std::shared_ptr<const std::vector<int32_t>> index) {
  const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  layout_ =
      std::make_shared<Layout>(Layout{std::move(lengths), std::move(offsets), tokens, capacity, max_length,
                                      packed, std::move(index), std::make_shared<Mirrors>()});
}

Sequences::Sequences(std::vector<int64_t> lengths, std::optional<int64_t> capacity,
                     std::optional<int64_t> max_length)
    : Sequences(checked_lengths(lengths), running_sum(lengths),
                capacity.value_or(std::accumulate(lengths.begin(), lengths.end(), int64_t{0})),
                max_length.value_or(longest_of(lengths)), true) {
  CHECK(this->capacity() >= tokens() && this->capacity() <= maximum_rows, "Sequences: capacity must lie in [",
        tokens(), ", ", maximum_rows, "], got ", this->capacity());
  const int64_t longest = longest_of(this->lengths());
  CHECK(this->max_length() >= longest && this->max_length() <= maximum_rows,
        "Sequences: max_length must lie in [", longest, ", ", maximum_rows, "], got ", this->max_length());
}

Sequences Sequences::slotted(std::vector<int64_t> lengths, int64_t slot) {
  const auto count = static_cast<int64_t>(lengths.size());
  CHECK(slot >= 0 && (count == 0 || slot <= maximum_rows / count), "Sequences: slot must lie in [0, ",
        maximum_rows, " / ", count, "], got ", slot);
  std::vector<int64_t> offsets(lengths.size() + 1);
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int64_t>(i) * slot;
  for (size_t i = 0; i < lengths.size(); ++i) {
    CHECK(lengths[i] >= 0 && lengths[i] <= slot, "Sequences: lengths must lie in [0, ", slot, "], got ",
          lengths[i], " at position ", i);
  }
  const int64_t longest = longest_of(lengths);
  return Sequences(std::move(lengths), std::move(offsets), count * slot, longest, false);
}

Sequences Sequences::placed(std::vector<int64_t> lengths, std::vector<int64_t> offsets, int64_t capacity) {
  CHECK(capacity <= maximum_rows, "Sequences: capacity must be at most ", maximum_rows, ", got ", capacity);
  offsets.push_back(capacity);
  const int64_t longest = longest_of(lengths);
  return Sequences(std::move(lengths), std::move(offsets), capacity, longest, false);
}

Sequences Sequences::indexed(std::vector<int64_t> lengths, std::vector<int32_t> rows, int64_t capacity) {
  CHECK(capacity <= maximum_rows, "Sequences: capacity must be at most ", maximum_rows, ", got ", capacity);
  const int64_t longest = longest_of(lengths);
  std::vector<int64_t> offsets = running_sum(lengths);
  return Sequences(checked_lengths(std::move(lengths)), std::move(offsets), capacity, longest, false,
                   std::make_shared<const std::vector<int32_t>>(std::move(rows)));
}

Sequences Sequences::select(const std::vector<int64_t>& indices) const {
  std::vector<int64_t> chosen_lengths, chosen_offsets;
  for (const int64_t index : indices) {
    CHECK(index >= 0 && index < size(), "Sequences.select: indices must lie in [0, ", size(), "), got ",
          index);
    chosen_lengths.push_back(lengths()[index]);
    chosen_offsets.push_back(offsets()[index]);
  }
  chosen_offsets.push_back(capacity());
  const int64_t longest = longest_of(chosen_lengths);
  return Sequences(checked_lengths(std::move(chosen_lengths)), std::move(chosen_offsets), capacity(), longest,
                   false, index());
}

bool Sequences::operator==(const Sequences& other) const {
  return lengths() == other.lengths() && capacity() == other.capacity() &&
         is_indexed() == other.is_indexed() && (!is_indexed() || *index() == *other.index()) &&
         std::equal(offsets().begin(), offsets().end() - 1, other.offsets().begin());
}

SequencesView Sequences::view(Device device) const {
  SequencesView view{.num_sequences = size(),
                     .offsets = nullptr,
                     .lengths = nullptr,
                     .rows = {capacity(), packed() ? tokens() : capacity(), nullptr},
                     .max_length = max_length()};
  if (Rehearsal::standing()) return view;  // its kernels read nothing, and its copies bring no values
  view.offsets = layout_->mirrors->on(device, *layout_);
  view.lengths = view.offsets + size() + 1;
  if (packed()) view.rows.tokens = view.offsets + size();
  if (is_indexed()) view.index = view.lengths + size();
  return view;
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
  return sequences->view(tensor.device()).rows;
}

}  // namespace dragoman
