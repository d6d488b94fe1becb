#include "peak.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "core/backend.h"
#include "core/parallel.h"
#include "core/tensor.h"
#include "peak_loops.h"

namespace dragoman::bench {

namespace {

const PeakLoops& loops() {
#ifdef DRAGOMAN_HAS_avx512_amx
  if (cpu_isa() == "avx512_amx") return avx512_amx::peak_loops;
#endif
#ifdef DRAGOMAN_HAS_avx512_bf16
  if (cpu_isa() == "avx512_bf16") return avx512_bf16::peak_loops;
#endif
#ifdef DRAGOMAN_HAS_avx512
  if (cpu_isa() == "avx512") return avx512::peak_loops;
#endif
#ifdef DRAGOMAN_HAS_avx2
  if (cpu_isa() == "avx2") return avx2::peak_loops;
#endif
  return baseline::peak_loops;
}

// Of a second: the best of several tries.
template <class Body>
double best_rate(double amount, const Body& body) {
  double best = 0.0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::max(best,
                    amount / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Billions a second of what the loop counts, on all threads.
double measure_loop(double (*loop)(int64_t iterations), int64_t iterations) {
  const double amount = loop(1) * iterations * num_threads();
  return 1e-9 * best_rate(amount, [&] {
           parallel_for(num_threads(), 1, [&](int64_t, int64_t) { loop(iterations); });
         });
}

double measure_gbytes(int64_t size) {
  const Tensor a = Tensor::zeros({size}), b = Tensor::zeros({size});
  const auto add = loops().add;
  const int64_t grain = (size + num_threads() - 1) / num_threads();
  const int repeats = static_cast<int>(1 + (int64_t{1} << 24) / size);
  return 1e-9 * best_rate(12.0 * static_cast<double>(size) * repeats, [&] {
           for (int i = 0; i < repeats; ++i) {
             parallel_for(size, grain, [&](int64_t begin, int64_t end) {
               add(a.data<float>() + begin, b.data<float>() + begin, end - begin);
             });
           }
         });
}

}  // namespace

double peak_gflops(DType dtype) {
  static std::map<std::pair<DType, int>, double> known;
  double& rate = known[{dtype, num_threads()}];
  const auto loop = dtype == DType::bfloat16 ? loops().bfloat16
                    : dtype == DType::int8   ? loops().int8
                                             : loops().float32;
  if (rate == 0.0) rate = measure_loop(loop, 2'000'000);
  return rate;
}

double tile_gflops(DType dtype) {
  return measure_loop(dtype == DType::bfloat16 ? loops().bfloat16_tile : loops().float32_tile, 20'000);
}

double pack_gbytes(DType dtype) {
  return measure_loop(dtype == DType::bfloat16 ? loops().bfloat16_pack : loops().float32_pack, 500);
}

double softmax_gelements() {
  return measure_loop(loops().softmax, 20'000);
}

double stream_gbytes(double bytes) {
  static std::map<std::pair<int64_t, int>, double> known;
  // To the nearest power of two from 4 KiB to 256 MiB: caches end there, and so does the patience.
  const int64_t rounded = int64_t{1} << std::clamp(std::lround(std::log2(bytes)), 12L, 28L);
  double& rate = known[{rounded, num_threads()}];
  if (rate == 0.0) rate = measure_gbytes(rounded / 12);
  return rate;
}

double read_gbytes(int64_t bytes) {
  const int64_t size = bytes / static_cast<int64_t>(sizeof(float));
  const Tensor buffer = Tensor::zeros({size});
  std::fill_n(buffer.data<float>(), size, 1.0f);  // pages that nobody wrote may be one page
  const auto read = loops().read;
  const int repeats = static_cast<int>(1 + (int64_t{1} << 26) / bytes);
  return 1e-9 * best_rate(static_cast<double>(bytes) * repeats, [&] {
           parallel_for(num_threads(), 1, [&](int64_t begin, int64_t end) {
             const int64_t first = size * begin / num_threads(), last = size * end / num_threads();
             for (int i = 0; i < repeats; ++i) read(buffer.data<float>() + first, last - first);
           });
         });
}

}  // namespace dragoman::bench
