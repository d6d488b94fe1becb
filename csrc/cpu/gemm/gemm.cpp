#include "cpu/gemm/gemm.h"

#include "core/storage.h"
#include "cpu/activation.h"
#include "cpu/gemm/pack.h"
#include "cpu/gemm/partition.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Where the sums over k grow: C itself, or scratch where C is bfloat16.
struct Sums {
  float* data;
  int64_t ld;
};

// Whole sums of `rows` x `columns` at (row, column): adds the bias, keeps pre, applies the activation.
template <class Out>
static void finish_tile(const Gemm& g, const Sums& sums, int64_t row, int64_t column, int64_t rows,
                        int64_t columns) {
  for (int64_t r = row; r < row + rows; ++r) {
    const float* sums_r = sums.data + r * sums.ld + column;
    Out* c_r = static_cast<Out*>(g.c) + r * g.ldc + column;
    each_vector(columns, [&](int64_t j, auto part) {
      Vec v = load(sums_r + j, part);
      if (g.bias != nullptr) v += load(g.bias + column + j, part);
      if (g.pre != nullptr) store(static_cast<Out*>(g.pre) + r * g.ldc + column + j, v, part);
      store(c_r + j, activate(v, g.activation), part);
    });
  }
}

// One tile of sums over one block of k.
static void run_tile(const Sums& sums, int64_t row, int64_t column, int64_t rows, int64_t columns,
                     int64_t depth, const float* a_strip, const float* b_panel, bool add) {
  const MicroKernel kernel = micro_kernels[rows - 1];
  float* c_tile = sums.data + row * sums.ld + column;
  if (columns == tile_columns) {
    kernel(depth, a_strip, b_panel, c_tile, sums.ld, add);
    return;
  }
  alignas(64) float tile[tile_rows * tile_columns];
  kernel(depth, a_strip, b_panel, tile, tile_columns, false);
  for (int64_t r = 0; r < rows; ++r) {
    each_vector(columns, [&](int64_t j, auto part) {
      const Vec v = load(tile + r * tile_columns + j, part);
      store(c_tile + r * sums.ld + j, add ? load(c_tile + r * sums.ld + j, part) + v : v, part);
    });
  }
}

// C's rows [row, row_end) x columns [column, column_end). Passes over k in blocks: the block's columns of B
// are packed into `panels` (L2), then strip by strip the rows of A (L1).
template <class In, class Out>
static void run_task(const Gemm& g, const Sums& sums, int64_t row, int64_t row_end, int64_t column,
                     int64_t column_end, float* panels) {
  const bool finishes =
      sums.data != g.c || g.bias != nullptr || g.pre != nullptr || g.activation != Activation::none;
  const In* a = static_cast<const In*>(g.a);
  const In* b = static_cast<const In*>(g.b);
  alignas(64) float a_strip[depth_block * strip_width];
  int64_t l = 0;
  do {  // once even when k is 0: C must be written
    const int64_t depth = min_of(depth_block, g.k - l);
    const bool add = g.accumulate || l > 0, last = l + depth == g.k;
    if (g.transpose_b) {
      pack_columns<tile_columns>(b + column * g.ldb + l, g.ldb, depth, column_end - column, panels);
    } else {
      pack_rows<tile_columns>(b + l * g.ldb + column, g.ldb, depth, column_end - column, panels);
    }
    for (int64_t i = row; i < row_end; i += tile_rows) {
      const int64_t rows = min_of(tile_rows, row_end - i), width = min_of(strip_width, g.m - i);
      if (g.transpose_a) {
        pack_rows<strip_width>(a + l * g.lda + i, g.lda, depth, width, a_strip);
      } else {
        pack_columns<strip_width>(a + i * g.lda + l, g.lda, depth, width, a_strip);
      }
      for (int64_t j = column; j < column_end; j += tile_columns) {
        const int64_t columns = min_of(tile_columns, column_end - j);
        run_tile(sums, i, j, rows, columns, depth, a_strip, panels + (j - column) * depth, add);
        if (last && finishes) finish_tile<Out>(g, sums, i, j, rows, columns);
      }
    }
    l += depth;
  } while (l < g.k);
}

template <class In, class Out>
static void run(const Gemm& g) {
  const bool apart = sizeof(Out) != sizeof(float);
  const Scratch sums_scratch(apart ? g.m * g.n * static_cast<int64_t>(sizeof(float)) : 0);
  const Sums sums =
      apart ? Sums{static_cast<float*>(sums_scratch.data), g.n} : Sums{static_cast<float*>(g.c), g.ldc};
  const Partition p = choose_partition(g.m, g.n, g.k);
  const int64_t panels_size = p.columns * min_of(depth_block, g.k);
  const Scratch scratch(max_threads() * panels_size * static_cast<int64_t>(sizeof(float)));
  parallel_for(p.row_tasks * p.column_tasks, p.grain, [&](int64_t begin, int64_t end) {
    float* panels = static_cast<float*>(scratch.data) + thread_index() * panels_size;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / p.column_tasks * p.rows, column = task % p.column_tasks * p.columns;
      run_task<In, Out>(g, sums, row, min_of(row + p.rows, g.m), column, min_of(column + p.columns, g.n),
                        panels);
    }
  });
}

void gemm(const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  with_dtype(g.dtype,
             [&](auto in) { with_dtype(g.c_dtype, [&](auto out) { run<decltype(in), decltype(out)>(g); }); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
