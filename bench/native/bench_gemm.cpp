// float32 matrix products through the kernel table (forward, dX, dW of a linear) against the machine's peak.
// One JSON line each; DRAGOMAN_ISA picks the instruction set. Results are checked before they are timed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "ops/linear.h"
#include "peak.h"

namespace dragoman::bench {

namespace {

template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Tensor random_matrix(int64_t rows, int64_t columns) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  Tensor matrix = Tensor::empty({rows, columns});
  std::generate_n(matrix.data<float>(), matrix.numel(), [&] { return normal(generator); });
  return matrix;
}

// The product C (m, n) = A B, element (i, l) of A being a[i * a_row + l * a_column], likewise B.
struct Product {
  const char* op;
  int64_t m, n, k;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row, b_column;
  const float* c;
};

// Sampled elements against float64; the bound is the rounding of a plain float32 sum.
void check(const Product& p) {
  std::mt19937 generator(2);
  for (int sample = 0; sample < 200; ++sample) {
    const int64_t i = generator() % p.m, j = generator() % p.n;
    double sum = 0.0, magnitude = 0.0;
    for (int64_t l = 0; l < p.k; ++l) {
      const double term =
          static_cast<double>(p.a[i * p.a_row + l * p.a_column]) * p.b[l * p.b_row + j * p.b_column];
      sum += term;
      magnitude += std::abs(term);
    }
    if (!(std::abs(p.c[i * p.n + j] - sum) <= 1e-6 * magnitude)) {
      std::fprintf(stderr, "%s (%lld, %lld, %lld): element (%lld, %lld) is %g, expected %g\n", p.op,
                   static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k),
                   static_cast<long long>(i), static_cast<long long>(j), p.c[i * p.n + j], sum);
      std::exit(1);
    }
  }
}

template <class Body>
void report(const Product& p, int threads, double peak, const Body& run) {
  run();
  check(p);
  const double gflop = 2e-9 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  const int repeats = std::max(1, static_cast<int>(0.1 * threads / gflop));
  std::vector<double> rates(15);
  for (double& rate : rates) {
    rate = gflop * repeats / seconds_of([&] {
             for (int i = 0; i < repeats; ++i) run();
           });
  }
  std::sort(rates.begin(), rates.end());
  const double median = rates[rates.size() / 2];
  std::printf(
      "{\"bench\":\"gemm\",\"op\":\"%s\",\"m\":%lld,\"n\":%lld,\"k\":%lld,\"threads\":%d,\"isa\":\"%s\","
      "\"gflops\":%.1f,\"gflops_best\":%.1f,\"percent_of_peak\":%.1f}\n",
      p.op, static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k), threads,
      cpu_isa().c_str(), median, rates.back(), 100.0 * median / peak);
  std::fflush(stdout);
}

// y (rows, out) = x (rows, in) weight (out, in)^T and its two gradients.
void bench_linear(int64_t rows, int64_t in, int64_t out, int threads, double peak) {
  const Tensor x = random_matrix(rows, in), weight = random_matrix(out, in), dy = random_matrix(rows, out);
  const Tensor y = Tensor::empty({rows, out}), dx = Tensor::empty({rows, in}),
               dweight = Tensor::empty({out, in});
  const LinearForward forward{.x = x.data<float>(),
                              .weight = weight.data<float>(),
                              .bias = nullptr,
                              .y = y.data<float>(),
                              .pre = nullptr,
                              .rows = rows,
                              .in_features = in,
                              .out_features = out,
                              .dtype = DType::float32,
                              .activation = Activation::none,
                              .tokens = nullptr};
  LinearBackward only_dx{.dy = dy.data<float>(),
                         .x = x.data<float>(),
                         .weight = weight.data<float>(),
                         .saved = nullptr,
                         .dx = dx.data<float>(),
                         .dweight = nullptr,
                         .dbias = nullptr,
                         .rows = rows,
                         .in_features = in,
                         .out_features = out,
                         .dtype = DType::float32,
                         .activation = Activation::none,
                         .accumulate_weight = false,
                         .accumulate_bias = false,
                         .tokens = nullptr};
  LinearBackward only_dweight = only_dx;
  only_dweight.dx = nullptr;
  only_dweight.dweight = dweight.data<float>();

  const Kernels& table = kernels(Device::cpu);
  report({"forward", rows, out, in, x.data<float>(), in, 1, weight.data<float>(), 1, in, y.data<float>()},
         threads, peak, [&] { table.linear_forward(forward); });
  report({"dx", rows, in, out, dy.data<float>(), out, 1, weight.data<float>(), in, 1, dx.data<float>()},
         threads, peak, [&] { table.linear_backward(only_dx); });
  report({"dweight", out, in, rows, dy.data<float>(), 1, out, x.data<float>(), in, 1, only_dweight.dweight},
         threads, peak, [&] { table.linear_backward(only_dweight); });
}

}  // namespace

}  // namespace dragoman::bench

int main() {
  using namespace dragoman;
  using namespace dragoman::bench;
  struct Shape {
    int64_t rows, in, out;
  };
  const std::vector<Shape> shapes{{2048, 512, 2048}, {2048, 2048, 512}, {4096, 128, 128},
                                  {4096, 128, 256},  {4096, 256, 128},  {4096, 128, 10000},
                                  {160, 128, 10000}, {8, 512, 512},     {1, 512, 512}};
  std::vector<int> thread_counts{1};
  if (num_threads() > 1) thread_counts.push_back(num_threads());
  for (const int threads : thread_counts) {
    set_num_threads(threads);
    const double peak = peak_gflops(DType::float32);
    std::printf("{\"bench\":\"peak\",\"threads\":%d,\"isa\":\"%s\",\"gflops\":%.1f}\n", threads,
                cpu_isa().c_str(), peak);
    for (const Shape& shape : shapes) bench_linear(shape.rows, shape.in, shape.out, threads, peak);
  }
}
