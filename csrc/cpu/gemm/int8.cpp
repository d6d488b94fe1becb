#include "cpu/gemm/int8.h"

#include "core/storage.h"
#include "cpu/activation.h"
#include "cpu/gemm/int8_kernel.h"
#include "cpu/gemm/panels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

#ifdef __AVX512VNNI__
// Four int8 of a row of W, in the form of gemm/units.h.
struct Bytes {
  static constexpr int64_t elements = int8_elements, group = int8_group;

  static inline Vec along_k(const int8_t* from, int64_t count) {
    const __mmask64 mask = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    return reinterpret_cast<Vec>(_mm512_maskz_loadu_epi8(mask, from));
  }
};
#endif

// -- The packed weight: panels of tile_columns rows of W, then 128 * (sum of each row of W) --

static int64_t panel_size(int64_t k) {
  return int8_units(k) * tile_columns * int8_elements;
}

static int64_t panels_of(int64_t n) {
  return divide_up(n, tile_columns);
}

// Where row j of W begins; its units are a panel's row apart.
static int64_t row_offset(int64_t k, int64_t j) {
  return j / tile_columns * panel_size(k) + j % tile_columns * int8_elements;
}

int64_t int8_packed_size(int64_t n, int64_t k) {
  return panels_of(n) * (panel_size(k) + tile_columns * static_cast<int64_t>(sizeof(int32_t)));
}

// Writes the panels of some rows of W, whose first one begins a panel.
static void pack_rows(int64_t k, int64_t rows, const int8_t* w, int8_t* panels) {
#ifdef __AVX512VNNI__
  pack_panels_transposed<Bytes>(
      k, rows, [&](int64_t j) { return w + j * k; }, reinterpret_cast<float*>(panels),
      int8_units(k) * tile_columns);
#else
  zero(panels, panels_of(rows) * panel_size(k));
  for (int64_t j = 0; j < rows; ++j) {
    const int8_t* row = w + j * k;
    int8_t* to = panels + row_offset(k, j);
    const int64_t whole = k / int8_elements * int8_elements;
    for (int64_t l = 0; l < whole; l += int8_elements, to += tile_columns * int8_elements) {
      __builtin_memcpy(to, row + l, int8_elements);
    }
    __builtin_memcpy(to, row + whole, static_cast<size_t>(k - whole));
  }
#endif
}

static int32_t sum_of_row(const int8_t* row, int64_t k) {
  constexpr int64_t step = lanes * int8_elements;
  Left one[int8_elements];
  for (Left& element : one) element = 1;
  IntVec sums{};
  int64_t l = 0;
  for (; l + step <= k; l += step) sums = int8_multiply_add(sums, broadcast_left(one), load_columns(row + l));
  int32_t sum = 0;
  for (int64_t i = 0; i < lanes; ++i) sum += sums[i];
  for (; l < k; ++l) sum += row[l];
  return sum;
}

void pack_int8(int64_t n, int64_t k, const int8_t* w, const PackedRows& rows, void* packed) {
  const int64_t count = rows.end - rows.begin;
  int8_t* panels = static_cast<int8_t*>(packed) + rows.begin / tile_columns * panel_size(k);
  int32_t* offsets =
      reinterpret_cast<int32_t*>(static_cast<int8_t*>(packed) + panels_of(n) * panel_size(k)) + rows.begin;
  parallel_for(panels_of(count), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * tile_columns, last = min_of(end * tile_columns, count);
    pack_rows(k, last - first, w + first * k, panels + begin * panel_size(k));
    zero(offsets + first, (end - begin) * tile_columns);
    for (int64_t j = first; j < last; ++j) offsets[j] = 128 * sum_of_row(w + j * k, k);
  });
}

void unpack_int8(int64_t k, const void* packed, int64_t j, int8_t* row) {
  const int8_t* from = static_cast<const int8_t*>(packed) + row_offset(k, j);
  for (int64_t l = 0; l < k; l += int8_elements, from += tile_columns * int8_elements) {
    for (int64_t i = 0; i < min_of(int8_elements, k - l); ++i) row[l + i] = from[i];
  }
}

// -- Activations --

// To the nearest integer, ties to even.
static inline IntVec round_to_int(Vec v) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntVec>(_mm512_maskz_cvtps_epi32(0xFFFF, v));
#elif defined(__AVX2__)
  return reinterpret_cast<IntVec>(_mm256_cvtps_epi32(v));
#elif defined(__SSE2__)
  return reinterpret_cast<IntVec>(_mm_cvtps_epi32(v));
#else
  IntVec rounded;
  for (int64_t i = 0; i < lanes; ++i) rounded[i] = static_cast<int32_t>(__builtin_rintf(v[i]));
  return rounded;
#endif
}

static inline void store_left(Left* to, IntVec v) {
#ifdef __AVX512VNNI__
  const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xFFFF, reinterpret_cast<__m512i>(v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
#else
  typedef Left Narrow __attribute__((vector_size(lanes * sizeof(Left))));
  const Narrow narrow = __builtin_convertvector(v, Narrow);
  __builtin_memcpy(to, &narrow, sizeof(narrow));
#endif
}

// The largest absolute value, an infinity or a NaN if there is one: as integers, NaNs are above infinity.
static float largest_magnitude(const float* x, int64_t k) {
  IntVec largest{};
  each_vector(k, [&](int64_t l, auto part) {
    const IntVec magnitude = reinterpret_cast<IntVec>(load(x + l, part)) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  });
  int32_t bits = 0;
  for (int64_t i = 0; i < lanes; ++i) bits = largest[i] > bits ? largest[i] : bits;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// Calls store(l, vector of round(x / scale) from l on), and returns the scale.
template <class Store>
static float round_row(const float* x, int64_t k, const Store& store) {
  constexpr float smallest = 1e-30f;
  const float largest = largest_magnitude(x, k);
  const bool finite = largest < infinity;
  const float factor = finite && largest >= smallest ? 127.0f / largest : 0.0f;
  each_vector(k, [&](int64_t l, auto part) {
    const Vec v = finite ? load(x + l, part) : Vec{};
    store(l, round_to_int(v * factor));
  });
  if (!finite) return __builtin_nanf("");
  return largest >= smallest ? largest / 127.0f : 0.0f;
}

// q (k,) = round(x / scale) + 128, and returns the scale. Writes whole vectors.
static float quantize_row(const float* x, int64_t k, Left* q) {
  return round_row(x, k, [&](int64_t l, IntVec v) { store_left(q + l, v + 128); });
}

float round_to_int8(const float* x, int64_t k, int8_t* row) {
  typedef int8_t Narrow __attribute__((vector_size(lanes)));
  return round_row(x, k, [&](int64_t l, IntVec v) {
    const Narrow narrow = __builtin_convertvector(v, Narrow);
    if (l + lanes <= k) {
      __builtin_memcpy(row + l, &narrow, sizeof(narrow));
    } else {
      __builtin_memcpy(row + l, &narrow, static_cast<size_t>(k - l));
    }
  });
}

// -- The product --

// The activations as the kernel reads them.
struct Quantized {
  const Left* q;        // (m, k), rows `row` elements apart
  const float* scales;  // (m,)
  int64_t row;
};

// Writes a tile of y from its sums (rows, tile_columns).
static void finish(const Int8Gemm& g, const Quantized& a, int64_t row, int64_t rows, int64_t column,
                   const int32_t* sums) {
  const auto* panels = static_cast<const int8_t*>(g.packed);
  const auto* offsets = reinterpret_cast<const int32_t*>(panels + panels_of(g.n) * panel_size(g.k)) + column;
  const auto integers = [](const int32_t* from) {
    IntVec v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  };
  for (int64_t r = 0; r < rows; ++r) {
    float* y = g.y + (row + r) * g.n + column;
    each_vector(min_of(tile_columns, g.n - column), [&](int64_t j, auto part) {
      const IntVec sum = integers(sums + r * tile_columns + j) - integers(offsets + j);
      const Vec scale = load(g.scales + column + j, part) * a.scales[row + r];
      Vec v = __builtin_convertvector(sum, Vec) * scale;
      if (g.bias != nullptr) v += load(g.bias + column + j, part);
      store(y + j, activate(v, g.activation), part);
    });
  }
}

// Rows [row, row_end) of some panels. A panel comes once from memory and serves all rows.
static void run_panels(const Int8Gemm& g, const Quantized& a, int64_t row, int64_t row_end, int64_t panel,
                       int64_t panel_end) {
  alignas(64) int32_t sums[int8_tile_rows * tile_columns];
  const int64_t units = int8_units(g.k);
  const int64_t strips = divide_up(row_end - row, int8_tile_rows);
  const int64_t height = Quads::group > 1 ? int8_tile_rows : divide_up(row_end - row, strips);
  for (; panel < panel_end; ++panel) {
    const int8_t* b = static_cast<const int8_t*>(g.packed) + panel * panel_size(g.k);
    for (int64_t i = row; i < row_end; i += height) {
      const int64_t rows = min_of(height, row_end - i);
      int8_tile(rows, units, a.q + i * a.row, a.row, b, sums);
      finish(g, a, i, rows, panel * tile_columns, sums);
    }
  }
}

void gemm_int8(const Int8Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  constexpr int64_t line = 64 / sizeof(Left);
  constexpr int64_t block_bytes = 1 << 18;  // of A: they stay in L2
  // An odd number of cache lines, so that rows fall in different sets.
  const int64_t lines = divide_up(int8_units(g.k) * int8_elements, line);
  const int64_t row = (lines + 1 - lines % 2) * line, row_bytes = row * static_cast<int64_t>(sizeof(Left));
  const int64_t capacity = round_up(g.m, int8_tile_rows);
  const Scratch scratch(capacity * (row_bytes + static_cast<int64_t>(sizeof(float))));
  Left* q = static_cast<Left*>(scratch.data);
  float* scales = reinterpret_cast<float*>(q + capacity * row);
  parallel_for(g.m, row_grain(g.k), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) scales[i] = quantize_row(g.x + i * g.k, g.k, q + i * row);
  });
  const Quantized a{q, scales, row};

  // In cycles, about: the panels come from memory, and all rows are multiplied.
  const int64_t work = g.n * int8_units(g.k) * int8_elements / 128 * (8 + g.m);
  constexpr int64_t serial_work = 1 << 15;  // below this, threads cost more than they save
  const int64_t panels = panels_of(g.n), threads = work <= serial_work ? 1 : num_threads();
  const int64_t block = max_of(int8_tile_rows, block_bytes / row_bytes / int8_tile_rows * int8_tile_rows);
  const int64_t row_tasks = divide_up(g.m, block);
  const int64_t column_tasks = threads == 1 ? 1 : min_of(panels, divide_up(4 * threads, row_tasks));
  const int64_t task_panels = divide_up(panels, column_tasks);
  const int64_t tasks = row_tasks * divide_up(panels, task_panels);
  parallel_for(tasks, threads == 1 ? tasks : 1, [&](int64_t begin, int64_t end) {
    const Registers<Quads> registers;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % row_tasks * block, panel = task / row_tasks * task_panels;
      run_panels(g, a, first, min_of(first + block, g.m), panel, min_of(panel + task_panels, panels));
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
