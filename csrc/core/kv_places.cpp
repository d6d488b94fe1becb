#include "core/kv_places.h"

#include <algorithm>

namespace dragoman {

KVPlaces::KVPlaces(int64_t num_sequences) {
  CHECK(num_sequences >= 0, "KVCache: num_sequences must be at least 0, got ", num_sequences);
  lengths_.assign(static_cast<size_t>(num_sequences), 0);
  for (int64_t i = 0; i < num_sequences; ++i) {
    const int32_t family = next_family_++;
    places_.push_back({{}, new_slot(family), family, true});
  }
}

int32_t KVPlaces::new_slot(int32_t family) {
  if (free_.empty()) {
    free_.push_back(static_cast<int32_t>(rows_of_slots_.size()));
    rows_of_slots_.push_back(0);
  }
  const int32_t slot = free_.back();
  free_.pop_back();
  families_[family].push_back(slot);
  return slot;
}

void KVPlaces::extend(const std::vector<int64_t>& new_rows) {
  for (size_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    place.slots.insert(place.slots.end(), static_cast<size_t>(new_rows[i]), place.slot);
    lengths_[i] += new_rows[i];
    if (new_rows[i] > 0) rows_of_slots_[place.slot] = lengths_[i];
  }
}

KVPlaces KVPlaces::reordered(const std::vector<int64_t>& parents) const {
  KVPlaces next(0);
  next.rows_of_slots_ = rows_of_slots_;
  next.free_ = free_;
  next.next_family_ = next_family_;
  std::vector<bool> taken(rows_of_slots_.size(), false);
  std::vector<size_t> without_slot;
  for (const int64_t parent : parents) {
    const Place& place = places_[parent];
    if (taken[place.slot]) without_slot.push_back(next.places_.size());
    taken[place.slot] = true;
    if (!next.families_.contains(place.family)) {
      next.families_.emplace(place.family, families_.at(place.family));
    }
    next.places_.push_back(place);
    next.lengths_.push_back(lengths_[parent]);
  }
  for (const auto& [family, slots] : families_) {  // those that have ended
    if (next.families_.contains(family)) continue;
    for (const int32_t slot : slots) {
      next.rows_of_slots_[slot] = 0;
      next.free_.push_back(slot);
    }
  }
  // A slot of the family is free where no row of the family may lie from this length on.
  for (const size_t i : without_slot) {
    Place& place = next.places_[i];
    const std::vector<int32_t>& slots = next.families_.at(place.family);
    const auto found = std::find_if(slots.begin(), slots.end(), [&](int32_t slot) {
      return !taken[slot] && next.rows_of_slots_[slot] <= next.lengths_[i];
    });
    place.slot = found != slots.end() ? *found : next.new_slot(place.family);
    place.straight = place.slots.empty();
    taken.resize(next.rows_of_slots_.size(), false);
    taken[place.slot] = true;
  }
  return next;
}

std::vector<int64_t> KVPlaces::join(const KVPlaces& other) {
  std::vector<int64_t> slots(other.rows_of_slots_.size(), 0);
  std::map<int32_t, int32_t> families;
  for (const auto& [family, of_family] : other.families_) {
    families[family] = next_family_++;
    for (const int32_t slot : of_family) {
      slots[slot] = new_slot(families[family]);
      rows_of_slots_[slots[slot]] = other.rows_of_slots_[slot];
    }
  }
  for (Place place : other.places_) {
    for (int32_t& slot : place.slots) slot = static_cast<int32_t>(slots[slot]);
    place.slot = static_cast<int32_t>(slots[place.slot]);
    place.family = families[place.family];
    places_.push_back(std::move(place));
  }
  lengths_.insert(lengths_.end(), other.lengths_.begin(), other.lengths_.end());
  return slots;
}

Sequences KVPlaces::own(int64_t slot_size, int64_t num_slots) const {
  std::vector<int64_t> offsets;
  for (const Place& place : places_) offsets.push_back(place.slot * slot_size);
  return Sequences::placed(lengths_, std::move(offsets), num_slots * slot_size);
}

Sequences KVPlaces::read(int64_t slot_size, int64_t num_slots) const {
  if (std::all_of(places_.begin(), places_.end(), [](const Place& place) { return place.straight; })) {
    return own(slot_size, num_slots);
  }
  std::vector<int32_t> rows;
  for (const Place& place : places_) {
    for (size_t row = 0; row < place.slots.size(); ++row) {
      rows.push_back(static_cast<int32_t>(place.slots[row] * slot_size + static_cast<int64_t>(row)));
    }
  }
  return Sequences::indexed(lengths_, std::move(rows), num_slots * slot_size);
}

}  // namespace dragoman
