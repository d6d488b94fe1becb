#include "cpu/gemm/gemm.h"

#include "core/storage.h"
#include "cpu/activation.h"
#include "cpu/gemm/pack.h"
#include "cpu/gemm/partition.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Rows [0, rows) x columns [0, columns) from c on hold whole sums: adds the bias, keeps pre, applies the
// activation.
static void finish_tile(const Gemm& g, int64_t row, int64_t column, int64_t rows, int64_t columns) {
  for (int64_t r = row; r < row + rows; ++r) {
    float* c_r = g.c + r * g.ldc + column;
    each_vector(columns, [&](int64_t j, auto part) {
      Vec v = load(c_r + j, part);
      if (g.bias != nullptr) v += load(g.bias + column + j, part);
      if (g.pre != nullptr) store(g.pre + r * g.ldc + column + j, v, part);
      store(c_r + j, activate(v, g.activation), part);
    });
  }
}

// One tile of C over one block of k.
static void run_tile(const Gemm& g, int64_t row, int64_t column, int64_t rows, int64_t columns, int64_t depth,
                     const float* a_strip, const float* b_panel, bool add) {
  const MicroKernel kernel = micro_kernels[rows - 1];
  float* c_tile = g.c + row * g.ldc + column;
  if (columns == tile_columns) {
    kernel(depth, a_strip, b_panel, c_tile, g.ldc, add);
    return;
  }
  alignas(64) float tile[tile_rows * tile_columns];
  kernel(depth, a_strip, b_panel, tile, tile_columns, false);
  for (int64_t r = 0; r < rows; ++r) {
    each_vector(columns, [&](int64_t j, auto part) {
      const Vec v = load(tile + r * tile_columns + j, part);
      store(c_tile + r * g.ldc + j, add ? load(c_tile + r * g.ldc + j, part) + v : v, part);
    });
  }
}

// C's rows [row, row_end) x columns [column, column_end). Passes over k in blocks: the block's columns of B
// are packed into `panels` (L2), then strip by strip the rows of A (L1).
static void run_task(const Gemm& g, int64_t row, int64_t row_end, int64_t column, int64_t column_end,
                     float* panels) {
  const bool finishes = g.bias != nullptr || g.pre != nullptr || g.activation != Activation::none;
  alignas(64) float a_strip[depth_block * strip_width];
  int64_t l = 0;
  do {  // once even when k is 0: C must be written
    const int64_t depth = min_of(depth_block, g.k - l);
    const bool add = g.accumulate || l > 0, last = l + depth == g.k;
    if (g.transpose_b) {
      pack_columns<tile_columns>(g.b + column * g.ldb + l, g.ldb, depth, column_end - column, panels);
    } else {
      pack_rows<tile_columns>(g.b + l * g.ldb + column, g.ldb, depth, column_end - column, panels);
    }
    for (int64_t i = row; i < row_end; i += tile_rows) {
      const int64_t rows = min_of(tile_rows, row_end - i), width = min_of(strip_width, g.m - i);
      if (g.transpose_a) {
        pack_rows<strip_width>(g.a + l * g.lda + i, g.lda, depth, width, a_strip);
      } else {
        pack_columns<strip_width>(g.a + i * g.lda + l, g.lda, depth, width, a_strip);
      }
      for (int64_t j = column; j < column_end; j += tile_columns) {
        const int64_t columns = min_of(tile_columns, column_end - j);
        run_tile(g, i, j, rows, columns, depth, a_strip, panels + (j - column) * depth, add);
        if (last && finishes) finish_tile(g, i, j, rows, columns);
      }
    }
    l += depth;
  } while (l < g.k);
}

void gemm(const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  const Partition p = choose_partition(g.m, g.n, g.k);
  const int64_t panels_size = p.columns * min_of(depth_block, g.k);
  const Scratch scratch(max_threads() * panels_size * static_cast<int64_t>(sizeof(float)));
  parallel_for(p.row_tasks * p.column_tasks, p.grain, [&](int64_t begin, int64_t end) {
    float* panels = static_cast<float*>(scratch.data) + thread_index() * panels_size;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / p.column_tasks * p.rows, column = task % p.column_tasks * p.columns;
      run_task(g, row, min_of(row + p.rows, g.m), column, min_of(column + p.columns, g.n), panels);
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
