// Copies of rows as bytes, in the largest units that the addresses allow.
#pragma once

#include "cuda/launch.h"
#include "cuda/rows.h"

namespace dragoman::cuda {

struct RowCopy {
  const char* from;
  char* to;  // null: there is nothing to copy
};

// A thread copies one unit of a row. place(row) is a RowCopy.
template <class Unit, class Place>
__global__ void __launch_bounds__(block_threads) copy_kernel(int64_t rows, int64_t units, Place place) {
  const int64_t index = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (index >= rows * units) return;
  const int64_t row = index / units, unit = index - row * units;
  const RowCopy copy = place(row);
  if (copy.to != nullptr) {
    reinterpret_cast<Unit*>(copy.to)[unit] = reinterpret_cast<const Unit*>(copy.from)[unit];
  }
}

// Copies row_bytes bytes for each of `rows` rows. `addresses`: an or of all pointers and distances.
template <class Place>
void copy_rows_by(int64_t rows, int64_t row_bytes, uint64_t addresses, const Place& place) {
  const auto copy_units = [&](auto unit) {
    using Unit = decltype(unit);
    const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
    launch(copy_kernel<Unit, Place>, grid_of(ceil_div(rows * units, block_threads)), block_threads, 0, rows,
           units, place);
  };
  const uint64_t all = addresses | static_cast<uint64_t>(row_bytes);
  if (all % 16 == 0) return copy_units(uint4{});
  if (all % 4 == 0) return copy_units(uint32_t{});
  return copy_units(uint8_t{});
}

inline uint64_t address_of(const void* p) {
  return reinterpret_cast<uintptr_t>(p);
}

}  // namespace dragoman::cuda
