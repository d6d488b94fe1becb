#include "peak_loops.h"

#include <bit>

#include "cpu/gemm/int8_kernel.h"

#ifdef __AVX512F__
#define DRAGOMAN_REGISTER "+v"
#else
#define DRAGOMAN_REGISTER "+x"
#endif

namespace dragoman::bench::DRAGOMAN_ISA {

using namespace cpu::DRAGOMAN_ISA;

namespace {

constexpr int chains = 12;  // enough to hide the latency of a multiply-add, few enough for 16 registers

double float32_loop(int64_t iterations) {
  Vec sum[chains] = {};
  Vec factor = broadcast(0.999f), term = broadcast(1e-3f);
  asm volatile("" : DRAGOMAN_REGISTER(factor), DRAGOMAN_REGISTER(term));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < chains; ++j) {
      sum[j] = sum[j] * factor + term;
      asm volatile("" : DRAGOMAN_REGISTER(sum[j]));  // keeps every round
    }
  }
  return 2.0 * chains * lanes * static_cast<double>(iterations);
}

#if defined(__AMX_TILE__)
// Four sums of 16 x 16, as many as a product keeps beside its operands.
template <class Units>
double tile_loop(int64_t iterations) {
  const TileRegisters registers;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < iterations; ++i) {
    if constexpr (Units::elements == 2) {
      _tile_dpbf16ps(0, 4, 5);
      _tile_dpbf16ps(1, 4, 5);
      _tile_dpbf16ps(2, 4, 5);
      _tile_dpbf16ps(3, 4, 5);
    } else {
      _tile_dpbusd(0, 4, 5);
      _tile_dpbusd(1, 4, 5);
      _tile_dpbusd(2, 4, 5);
      _tile_dpbusd(3, 4, 5);
    }
  }
  return 4.0 * 16 * 16 * 16 * 2 * Units::elements * static_cast<double>(iterations);
}
constexpr auto bfloat16_loop = tile_loop<Pairs>;
#elif defined(__AVX512BF16__)
double bfloat16_loop(int64_t iterations) {
  Vec sum[chains] = {};
  const __m512bh factor = _mm512_cvtne2ps_pbh(broadcast(1e-3f), broadcast(1e-3f));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < chains; ++j) {
      sum[j] = _mm512_dpbf16_ps(sum[j], factor, factor);
      asm volatile("" : DRAGOMAN_REGISTER(sum[j]));
    }
  }
  return 4.0 * chains * lanes * static_cast<double>(iterations);
}
#else
constexpr auto bfloat16_loop = float32_loop;  // widened, it costs the same
#endif

#if defined(__AMX_TILE__)
constexpr auto int8_loop = tile_loop<Quads>;
#else
double int8_loop(int64_t iterations) {
  IntVec sum[chains] = {};
  IntVec factor = IntVec{} + 0x00010001;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < chains; ++j) {
      asm volatile("" : DRAGOMAN_REGISTER(factor));  // so that no multiplication leaves the loop
      sum[j] = int8_multiply_add(sum[j], factor, factor);
      asm volatile("" : DRAGOMAN_REGISTER(sum[j]));
    }
  }
  return 2.0 * int8_elements * chains * lanes * static_cast<double>(iterations);
}
#endif

// Ones: beside operands of zeros, AMX runs faster than it does beside any others.
template <class Units>
double register_tile(int64_t iterations) {
  constexpr int64_t rows = tile_rows<Units>, row = ByRows<Units>::row;
  constexpr float one =
      Units::elements == 2 ? std::bit_cast<float>(0x3F803F80) : 1.0f;  // a pair of ones, or one
  alignas(64) float a[rows * row], b[depth_block * tile_columns], c[rows * tile_columns];
  for (float& unit : a) unit = one;
  for (float& unit : b) unit = one;
  const Registers<Units> registers;
  for (int64_t i = 0; i < iterations; ++i) {
    if constexpr (Units::group > 1) {
      tile_product<Units>(rows, depth_block, a, row, b, c, tile_columns, false);
    } else {
      micro_kernels<Units, ByRows<Units>>[rows - 1](depth_block, a, b, c);
    }
    asm volatile("" : : "m"(c));  // keeps every round
  }
  return 2.0 * rows * tile_columns * depth_block * Units::elements * static_cast<double>(iterations);
}

// The matrix has 256 KiB: it and the panels stay in L2.
template <class Units, class T>
double pack_loop(int64_t iterations) {
  constexpr int64_t width = 256, depth = (256 << 10) / width / static_cast<int64_t>(sizeof(T));
  constexpr int64_t panel = depth / Units::elements * tile_columns;
  alignas(64) T matrix[width * depth] = {};
  alignas(64) float panels[width / tile_columns * panel];
  for (int64_t i = 0; i < iterations; ++i) {
    pack_panels_transposed<Units>(depth, width, [&](int64_t j) { return matrix + j * depth; }, panels, panel);
    asm volatile("" : : "m"(panels));  // keeps every round
  }
  return static_cast<double>(sizeof(matrix)) * static_cast<double>(iterations);
}

double softmax_loop(int64_t iterations) {
  constexpr int64_t size = 1024;
  alignas(64) float x[size] = {}, y[size];
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+m"(x));  // keeps every round
    const float maximum = largest_of(size, [&](int64_t j, auto part) { return load(x + j, part); });
    const float sum = sum_of(size, [&](int64_t j, auto part) {
      const Vec e = vexp2((load(x + j, part) - maximum) * log2_e);
      store(y + j, e, part);
      return e;
    });
    const float share = 1.0f / sum;
    each_vector(size, [&](int64_t j, auto part) { store(y + j, load(y + j, part) * share, part); });
    asm volatile("" : : "m"(y));
  }
  return static_cast<double>(size) * static_cast<double>(iterations);
}

void add_loop(const float* a, float* b, int64_t size) {
  each_vector(size, [&](int64_t i, auto part) { store(b + i, load(a + i, part) + load(b + i, part), part); });
}

// Sums that do not wait for each other, and prefetches, as a product reads its weights.
void read_loop(const float* a, int64_t size) {
  constexpr int sums = 8;
  constexpr int64_t ahead = 1024;  // floats
  Vec sum[sums] = {};
  int64_t i = 0;
  for (; i + sums * lanes <= size; i += sums * lanes) {
#pragma GCC unroll 8
    for (int j = 0; j < sums; ++j) {
      __builtin_prefetch(a + i + j * lanes + ahead);
      sum[j] += load(a + i + j * lanes);
    }
  }
  for (int j = 1; j < sums; ++j) sum[0] += sum[j];
  asm volatile("" : DRAGOMAN_REGISTER(sum[0]));  // keeps the reads
}

}  // namespace

extern const PeakLoops peak_loops;
const PeakLoops peak_loops{float32_loop,
                           bfloat16_loop,
                           int8_loop,
                           register_tile<Singles>,
                           register_tile<Pairs>,
                           pack_loop<Singles, float>,
                           pack_loop<Pairs, bfloat16>,
                           softmax_loop,
                           add_loop,
                           read_loop};

}  // namespace dragoman::bench::DRAGOMAN_ISA
