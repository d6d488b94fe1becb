#include "cpu/gemm/gemm.h"

#include "core/storage.h"
#include "cpu/activation.h"
#include "cpu/gemm/partition.h"
#include "cpu/gemm/strips.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// The elements of A, B and C, and the units in which A and B are packed.
template <class A_, class B_, class C_, class Units_>
struct Types {
  using A = A_;
  using B = B_;
  using C = C_;
  using Units = Units_;
};
template <class C>
using FloatTypes = Types<float, float, C, Singles>;
template <class C>
using BFloatTypes = Types<bfloat16, bfloat16, C, Pairs>;

// A tile of C: `rows` x `columns` at (row, column), and its sums over the blocks of k so far.
struct Tile {
  int64_t row, column, rows, columns;
  float* sums;
  int64_t ld;
};

static void prefetch(const Tile& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t j = 0; j < tile_columns; j += 16) __builtin_prefetch(t.sums + r * t.ld + j, 1);
  }
}

// Stores the sums over one block of k, `block` (rows, tile_columns), or adds them to those of the blocks
// before.
static void add_block(const float* block, const Tile& t, bool add) {
  for (int64_t r = 0; r < t.rows; ++r) {
    float* sums_r = t.sums + r * t.ld;
    each_vector(t.columns, [&](int64_t j, auto part) {
      Vec v = load(block + r * tile_columns + j, part);
      if (add) v += load(sums_r + j, part);
      store(sums_r + j, v, part);
    });
  }
}

// Writes a tile of C: adds the sums of the last block, `last` (rows, ld), to those before, `before` (rows,
// before_ld) or null, and applies bias and activation.
template <class T>
static void finish(const Gemm& g, const Tile& t, const float* last, int64_t ld, const float* before,
                   int64_t before_ld) {
  using C = typename T::C;
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t first = (t.row + r) * g.ldc + t.column;
    C* c = static_cast<C*>(g.c) + first;
    C* pre = g.pre == nullptr ? nullptr : static_cast<C*>(g.pre) + first;
    const auto value = [&](int64_t j, auto part) {
      Vec sum = load(last + r * ld + j, part);
      if (before != nullptr) sum += load(before + r * before_ld + j, part);
      return g.bias == nullptr ? sum : sum + load(g.bias + t.column + j, part);
    };
    if (t.columns == tile_columns) {
      const Vec low = value(0, AllLanes{}), high = value(lanes, AllLanes{});
      if (pre != nullptr) store(pre, low, high);
      store(c, activate(low, g.activation), activate(high, g.activation));
      continue;
    }
    each_vector(t.columns, [&](int64_t j, auto part) {
      const Vec v = value(j, part);
      if (pre != nullptr) store(pre + j, v, part);
      store(c + j, activate(v, g.activation), part);
    });
  }
}

// Packs one block of k, `depth` elements from l on, of the columns [column, column_end) of op(B).
template <class T>
static void pack_block(const void* matrix, int64_t ld, bool transposed, int64_t l, int64_t depth,
                       int64_t column, int64_t column_end, float* panels) {
  using Units = typename T::Units;
  const auto* b = static_cast<const typename T::B*>(matrix);
  const int64_t width = column_end - column;
  const int64_t stride = units_of<Units>(depth) * tile_columns;
  if (!transposed) {
    return pack_panels<Units>(
        depth, width, [&](int64_t i) { return b + (l + i) * ld + column; }, panels, stride);
  }
  pack_panels_transposed<Units>(
      depth, width, [&](int64_t j) { return b + (column + j) * ld + l; }, panels, stride);
}

// Offset into a packed B of n columns: the block of k that begins at element l and is `units` deep, from
// `column` on.
template <class Units>
static int64_t packed_offset(int64_t n, int64_t l, int64_t units, int64_t column) {
  return l / Units::elements * round_up(n, tile_columns) + column * units;
}

// Rows of each strip but the last of a task. They are equal where that is free: a strip of a few rows is
// slow.
template <class Units>
static int64_t strip_height(int64_t rows, bool transpose_a) {
  if (Units::group > 1 || transpose_a) return tile_rows<Units>;
  return divide_up(rows, divide_up(rows, tile_rows<Units>));
}

// A task's sums. Those of its tile at (i, j) begin at first + i * row + j * column; their rows are `ld`
// apart.
struct Sums {
  float* first;
  int64_t row, column, ld;
};

// Computes rows [row, row_end) x columns [column, column_end) of C. For each block of k: packs the columns of
// B into `panels` (L2), unless B is packed; then goes through the rows of A strip by strip (L1).
template <class T, class Strip>
static void run_task(const Gemm& g, int64_t row, int64_t row_end, int64_t column, int64_t column_end,
                     const Sums& sums, float* panels) {
  using Units = typename T::Units;
  const auto* a = static_cast<const typename T::A*>(g.a);
  constexpr int64_t tile_rows = cpu::DRAGOMAN_ISA::tile_rows<Units>;
  const int64_t height = strip_height<Units>(row_end - row, g.transpose_a);
  alignas(64) float buffer[strips_per_call * strip_size<Units>];
  alignas(64) float block[tile_rows * tile_columns];
  int64_t l = 0;
  do {  // once even when k is 0: C must be written
    const int64_t depth = min_of(depth_block * Units::elements, g.k - l);
    const int64_t units = units_of<Units>(depth);
    const bool add = g.accumulate || l > 0, last = l + depth == g.k;
    const float* b = panels;
    if (g.packed_b != nullptr) {
      b = g.packed_b + packed_offset<Units>(g.n, l, units, column);
    } else {
      pack_block<T>(g.b, g.ldb, g.transpose_b, l, depth, column, column_end, panels);
    }
    for (int64_t i = row; i < row_end; i += height) {
      const int64_t rows = min_of(height, row_end - i);
      const auto* a_il = g.transpose_a ? a + l * g.lda + i : a + i * g.lda + l;
      const StripView left =
          strip_at<Units, Strip>(a_il, g.lda, g.transpose_a, depth, g.m - i, (i - row) / tile_rows, buffer);
      for (int64_t j = column; j < column_end; j += tile_columns) {
        const Tile tile{i,
                        j,
                        rows,
                        min_of(tile_columns, column_end - j),
                        sums.first + (i - row) * sums.row + (j - column) * sums.column,
                        sums.ld};
        const float* panel = b + (j - column) * units;
        if constexpr (Units::group > 1) {  // the registers load the sums so far
          float* to = l == 0 && last ? block : tile.sums;
          const int64_t ld = l == 0 && last ? tile_columns : tile.ld;
          tile_product<Units>(rows, units, left.strip, left.row, panel, to, ld, l > 0);
          const float* c = static_cast<const float*>(g.c) + i * g.ldc + j;
          if (last) finish<T>(g, tile, to, ld, g.accumulate ? c : nullptr, g.ldc);
        } else {
          if (add) prefetch(tile);
          micro_kernels<Units, Strip>[rows - 1](units, left.strip, panel, block);
          if (last) {
            finish<T>(g, tile, block, tile_columns, add ? tile.sums : nullptr, tile.ld);
          } else {
            add_block(block, tile, add);
          }
        }
      }
    }
    l += depth;
  } while (l < g.k);
}

// Sums over several blocks are kept in C, or beside the panels where C is bfloat16 or tiles are computed
// whole. There each tile is contiguous: rows at a distance of a power of two would fall in the same cache
// sets.
template <class T, class Strip>
static void run(const Gemm& g) {
  using Units = typename T::Units;
  const int64_t units = units_of<Units>(g.k);
  const Partition p = choose_partition<Units>(g.m, g.n, units, g.transpose_a, g.packed_b != nullptr);
  const bool apart = sizeof(typename T::C) != sizeof(float) || Units::group > 1;
  const int64_t sums_size = apart && units > depth_block ? p.rows * p.columns : 0;
  const int64_t panels_size = g.packed_b != nullptr ? 0 : p.columns * min_of(depth_block, units);
  const int64_t size = sums_size + panels_size;
  const Scratch scratch(max_threads() * size * static_cast<int64_t>(sizeof(float)));
  parallel_for(p.row_tasks * p.column_tasks, p.grain, [&](int64_t begin, int64_t end) {
    const Registers<Units> registers;
    float* panels = static_cast<float*>(scratch.data) + thread_index() * size;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task % p.row_tasks * p.rows, column = task / p.row_tasks * p.columns;
      const int64_t row_end = min_of(row + p.rows, g.m),
                    height = strip_height<Units>(row_end - row, g.transpose_a);
      const Sums sums = apart ? Sums{panels + panels_size, p.columns, height, tile_columns}
                              : Sums{static_cast<float*>(g.c) + row * g.ldc + column, g.ldc, 1, g.ldc};
      run_task<T, Strip>(g, row, row_end, column, min_of(column + p.columns, g.n), sums, panels);
    }
  });
}

template <class T>
static void pack_rows(int64_t n, int64_t k, const void* b, const PackedRows& rows, float* packed) {
  using Units = typename T::Units;
  constexpr int64_t columns = 4 * tile_columns;  // of a task
  const int64_t count = rows.end - rows.begin;
  parallel_for(divide_up(count, columns), 1, [&](int64_t begin, int64_t end) {
    for (int64_t column = begin * columns; column < min_of(end * columns, count); column += columns) {
      for (int64_t l = 0; l < k; l += depth_block * Units::elements) {
        const int64_t depth = min_of(depth_block * Units::elements, k - l);
        pack_block<T>(b, k, true, l, depth, column, min_of(column + columns, count),
                      packed + packed_offset<Units>(n, l, units_of<Units>(depth), rows.begin + column));
      }
    }
  });
}

int64_t packed_size(int64_t n, int64_t k, DType dtype) {
  const auto size = [&](auto types) {
    using Units = typename decltype(types)::Units;
    return units_of<Units>(k) * round_up(n, tile_columns);
  };
  return dtype == DType::bfloat16 ? size(BFloatTypes<float>{}) : size(FloatTypes<float>{});
}

template <class T>
static void unpack_row(int64_t n, int64_t k, const float* packed, int64_t j, typename T::B* row) {
  using Units = typename T::Units;
  constexpr int64_t block = depth_block * Units::elements;
  for (int64_t l = 0; l < k; l += block) {
    const int64_t depth = min_of(block, k - l), units = units_of<Units>(depth);
    const float* from =
        packed + packed_offset<Units>(n, l, units, j / tile_columns * tile_columns) + j % tile_columns;
    for (int64_t i = 0; i < depth; i += Units::elements, from += tile_columns) {
      if constexpr (sizeof(*row) == sizeof(float)) {
        row[l + i] = *from;
      } else if constexpr (Units::elements == 1) {  // widened
        store(row + l + i, broadcast(*from), FirstLanes{1});
      } else {
        __builtin_memcpy(row + l + i, from, static_cast<size_t>(min_of(2, depth - i)) * sizeof(*row));
      }
    }
  }
}

void unpack_b(int64_t n, int64_t k, const float* packed, DType dtype, int64_t j, void* row) {
  if (dtype == DType::bfloat16) {
    unpack_row<BFloatTypes<float>>(n, k, packed, j, static_cast<bfloat16*>(row));
  } else {
    unpack_row<FloatTypes<float>>(n, k, packed, j, static_cast<float*>(row));
  }
}

void pack_b(int64_t n, int64_t k, const void* b, DType dtype, const PackedRows& rows, float* packed) {
  if (dtype == DType::bfloat16) {
    pack_rows<BFloatTypes<float>>(n, k, b, rows, packed);
  } else {
    pack_rows<FloatTypes<float>>(n, k, b, rows, packed);
  }
}

void gemm(const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  const auto run_with = [&](auto types) {
    using T = decltype(types);
    using Units = typename T::Units;
    if constexpr (Units::group == 1) {
      if (g.transpose_a) return run<T, ByUnits>(g);
    }
    run<T, ByRows<Units>>(g);
  };
  with_dtype(g.c_dtype, [&](auto c) {
    if (g.dtype == DType::bfloat16) {
      run_with(BFloatTypes<decltype(c)>{});
    } else {
      run_with(FloatTypes<decltype(c)>{});
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
