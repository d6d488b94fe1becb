// Which slots of a KVCache hold the rows of each sequence.
//
// A slot is a stretch of rows. Row p of a sequence lies at place p of some slot: of its own one, or, where
// the sequence goes on from another one, of the slot that held it then. So sequences share their common
// beginning, and nothing is copied when they part.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/sequences.h"

namespace dragoman {

class KVPlaces {
 public:
  explicit KVPlaces(int64_t num_sequences);  // without rows, each with a slot of its own

  const std::vector<int64_t>& lengths() const { return lengths_; }
  int64_t num_slots() const { return static_cast<int64_t>(rows_of_slots_.size()); }
  // How many rows of each slot may be in use: its first ones.
  const std::vector<int64_t>& rows_of_slots() const { return rows_of_slots_; }

  void extend(const std::vector<int64_t>& new_rows);  // of each sequence
  // Sequence i of the result goes on from sequence parents[i].
  KVPlaces reordered(const std::vector<int64_t>& parents) const;
  // The sequences of `other` come after these. Returns the slot here for each of its slots.
  std::vector<int64_t> join(const KVPlaces& other);

  // Where each sequence's own slot is, in a buffer of num_slots slots: where its next rows go.
  Sequences own(int64_t slot_size, int64_t num_slots) const;
  // Where the rows of each sequence lie.
  Sequences read(int64_t slot_size, int64_t num_slots) const;

 private:
  struct Place {
    std::vector<int32_t> slots;  // of each row
    int32_t slot;                // its own
    int32_t family;              // number that sequences with a common beginning have: they share slots
    bool straight;               // whether all rows lie in its own slot
  };

  int32_t new_slot(int32_t family);

  std::vector<Place> places_;
  std::vector<int64_t> lengths_;
  std::vector<int64_t> rows_of_slots_;
  std::map<int32_t, std::vector<int32_t>> families_;  // the slots of each
  std::vector<int32_t> free_;                         // slots of no family
  int32_t next_family_ = 0;
};

}  // namespace dragoman
