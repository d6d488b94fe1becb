// How a product is divided into tasks. The result's bits do not depend on it.
#pragma once

#include "core/parallel.h"
#include "cpu/gemm/micro_kernel.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// row_tasks x column_tasks tasks. Each computes `rows` x `columns` of C, both multiples of a tile's size.
struct Partition {
  int64_t rows, columns, row_tasks, column_tasks, grain;
};

template <class Units>
static Partition divide(int64_t m, int64_t n, int64_t row_tasks, int64_t column_tasks) {
  const int64_t rows = divide_up(divide_up(m, row_tasks), tile_rows<Units>) * tile_rows<Units>;
  const int64_t columns = divide_up(divide_up(n, column_tasks), tile_columns) * tile_columns;
  return {rows, columns, divide_up(m, rows), divide_up(n, columns), 1};
}

// Chooses among a few partitions whose columns of B stay in L2: the one whose busiest thread has the smallest
// amount of work.
template <class Units>
static Partition choose_partition(int64_t m, int64_t n, int64_t units, bool transpose_a, bool packed_b) {
  constexpr int64_t maximum_columns = Units::group > 1 ? 1024 : 512;
  constexpr int64_t packing = 32 * Units::group;  // cost of packing one unit, in multiply-adds of units
  const int64_t fetching = packed_b ? packing / 4 : packing;  // cost of one unit of B
  constexpr int64_t serial_work = Units::group << 20;         // below this, threads cost more than they save
  const int64_t minimum_column_tasks = divide_up(n, maximum_columns);
  constexpr int64_t maximum_sums = 1 << 18;  // of a task: they stay in L2 beside the panels
  const bool sums_apart = Units::group > 1 && units > depth_block;
  const bool serial = (m * n + packing * m + fetching * n) * units <= serial_work;
  const int64_t threads = serial ? 1 : num_threads();

  Partition best{};
  int64_t best_work = -1;
  const auto consider = [&](int64_t row_tasks, int64_t column_tasks) {
    column_tasks = max_of(minimum_column_tasks, column_tasks);
    const int64_t minimum_row_tasks =
        sums_apart ? divide_up(m * divide_up(n, column_tasks), maximum_sums) : 1;
    const Partition p = divide<Units>(m, n, max_of(minimum_row_tasks, row_tasks), column_tasks);
    int64_t work = divide_up(p.row_tasks * p.column_tasks, threads) *
                   (p.rows * p.columns + packing * p.rows + fetching * p.columns);
    // Threads that pack the same rows of a transposed A delay each other: each unit is in another cache line.
    if (transpose_a && Units::group == 1 && p.row_tasks < threads) work += work / 4;
    if (best_work < 0 || work < best_work) {
      best = p;
      best_work = work;
    }
  };
  for (int64_t parts = 1; parts <= threads; parts *= 2) {
    for (int64_t rounds = 1; rounds <= 4; ++rounds) {
      consider(rounds * threads / parts, parts);
      consider(parts, rounds * threads / parts);
    }
  }
  if (serial) best.grain = best.row_tasks * best.column_tasks;
  return best;
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
