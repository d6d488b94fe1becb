// The matrix products of a linear (forward, dx, dweight; forward of few rows with a packed weight, too)
// against the machine's peak in their type, measured on the spot; packing counts. One JSON line each, and for
// the shapes of a base model at 2048 rows their harmonic mean. DRAGOMAN_ISA picks the instruction set.
// Results are checked before they are timed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/parallel.h"
#include "ops/int8_matmul.h"
#include "ops/linear.h"
#include "peak.h"
#include "tensors.h"

namespace dragoman::bench {

namespace {

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// C (m, n) = A B; A's element (i, l) is a[l * m + i] if transpose_a, B's (l, j) b[j * k + l] if transpose_b.
struct Product {
  const char* op;
  int64_t m, n, k;
  Tensor a, b, c;
  bool transpose_a, transpose_b;
};

// Sampled elements against float64: within the rounding of a float32 sum and of C's type.
void check(const Product& p) {
  std::mt19937 generator(2);
  const double rounding = p.c.dtype() == DType::bfloat16 ? 1.0 / 256 : 0.0;
  for (int sample = 0; sample < 200; ++sample) {
    const int64_t i = generator() % p.m, j = generator() % p.n;
    double sum = 0.0, magnitude = 0.0;
    for (int64_t l = 0; l < p.k; ++l) {
      const double term = value(p.a, p.transpose_a ? l * p.m + i : i * p.k + l) *
                          value(p.b, p.transpose_b ? j * p.k + l : l * p.n + j);
      sum += term;
      magnitude += std::abs(term);
    }
    const double got = value(p.c, i * p.n + j);
    if (!(std::abs(got - sum) <= 1e-6 * magnitude + rounding * std::abs(sum))) {
      std::fprintf(stderr, "%s (%lld, %lld, %lld): element (%lld, %lld) is %g, expected %g\n", p.op,
                   static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k),
                   static_cast<long long>(i), static_cast<long long>(j), got, sum);
      std::exit(1);
    }
  }
}

// What the shapes of a base model reach, in % of the peak: by op, to be averaged.
using Percents = std::map<std::string, std::vector<double>>;

void report(const Product& p, DType dtype, Percents* percents, const std::function<void()>& run) {
  run();
  check(p);
  const double gflop = 2e-9 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  const double peak = peak_gflops(dtype);
  const int repeats = std::max(1, static_cast<int>(0.01 / seconds_of(run)));  // 10 ms of them
  std::vector<double> rates(gflop > 20.0 ? 5 : 11);
  for (double& rate : rates) {
    rate = gflop * repeats / seconds_of([&] {
             for (int i = 0; i < repeats; ++i) run();
           });
  }
  std::sort(rates.begin(), rates.end());
  const double median = rates[rates.size() / 2];
  std::printf(
      "{\"bench\":\"gemm\",\"dtype\":\"%s\",\"op\":\"%s\",\"m\":%lld,\"n\":%lld,\"k\":%lld,\"threads\":%d,"
      "\"isa\":\"%s\",\"gflops\":%.1f,\"gflops_best\":%.1f,\"percent_of_peak\":%.1f}\n",
      name(dtype), p.op, static_cast<long long>(p.m), static_cast<long long>(p.n),
      static_cast<long long>(p.k), num_threads(), cpu_isa().c_str(), median, rates.back(),
      100.0 * median / peak);
  std::fflush(stdout);
  if (percents != nullptr) (*percents)[p.op].push_back(100.0 * median / peak);
}

struct Size {
  int64_t rows, in, out;
};

constexpr int64_t few_rows = 64;  // as decoding has them

// y (rows, out) = x (rows, in) weight (out, in)^T and its two gradients.
void bench_linear(Size size, DType dtype, Percents* percents) {
  const auto [rows, in, out] = size;
  const Tensor x = random_tensor({rows, in}, dtype), weight = random_tensor({out, in}, dtype),
               dy = random_tensor({rows, out}, dtype);
  const Tensor y = Tensor::empty({rows, out}, dtype), dx = Tensor::empty({rows, in}, dtype),
               dweight = Tensor::empty({out, in});
  const LinearForward forward{.x = x.raw(),
                              .weight = weight.raw(),
                              .packed = nullptr,
                              .bias = nullptr,
                              .y = y.raw(),
                              .pre = nullptr,
                              .rows = rows,
                              .in_features = in,
                              .out_features = out,
                              .dtype = dtype,
                              .activation = Activation::none,
                              .dropout = {},
                              .tokens = nullptr};
  LinearBackward only_dx{.dy = dy.raw(),
                         .x = x.raw(),
                         .weight = weight.raw(),
                         .saved = nullptr,
                         .dx = dx.raw(),
                         .dweight = nullptr,
                         .dbias = nullptr,
                         .rows = rows,
                         .in_features = in,
                         .out_features = out,
                         .dtype = dtype,
                         .activation = Activation::none,
                         .dropout = {},
                         .accumulate_weight = false,
                         .accumulate_bias = false,
                         .tokens = nullptr};
  LinearBackward only_dweight = only_dx;
  only_dweight.dx = nullptr;
  only_dweight.dweight = dweight.data<float>();

  const Kernels& table = kernels(Device::cpu);
  report({"forward", rows, out, in, x, weight, y, false, true}, dtype, percents,
         [&] { table.linear_forward(forward); });
  if (rows <= few_rows) {
    const Tensor packed = pack_weight(weight);
    LinearForward forward_packed = forward;
    forward_packed.packed = packed.data<float>();
    report({"forward packed", rows, out, in, x, weight, y, false, true}, dtype, percents,
           [&] { table.linear_forward(forward_packed); });
  }
  report({"dx", rows, in, out, dy, weight, dx, false, false}, dtype, percents,
         [&] { table.linear_backward(only_dx); });
  report({"dweight", out, in, rows, dy, x, dweight, true, false}, dtype, percents,
         [&] { table.linear_backward(only_dweight); });
}

void bench_int8(Size size, Percents* percents) {
  const auto [rows, in, out] = size;
  const Tensor a = random_tensor({rows, in}, DType::uint8), b = random_tensor({out, in}, DType::int8),
               c = Tensor::empty({rows, out}, DType::int32);
  report({"forward", rows, out, in, a, b, c, false, true}, DType::int8, percents, [&] {
    kernels(Device::cpu)
        .int8_matmul({.a = a.data<uint8_t>(),
                      .b = b.data<int8_t>(),
                      .c = c.data<int32_t>(),
                      .m = rows,
                      .n = out,
                      .k = in});
  });
}

void summarize(const char* what, DType dtype, const std::vector<double>& percents) {
  double inverse = 0.0;
  for (const double percent : percents) inverse += 1.0 / percent;
  std::printf(
      "{\"bench\":\"gemm_mean\",\"dtype\":\"%s\",\"op\":\"%s\",\"threads\":%d,\"isa\":\"%s\","
      "\"percent_of_peak\":%.1f,\"percent_of_worst_shape\":%.1f}\n",
      name(dtype), what, num_threads(), cpu_isa().c_str(), static_cast<double>(percents.size()) / inverse,
      *std::min_element(percents.begin(), percents.end()));
}

void bench_dtype(DType dtype) {
  const std::vector<Size> base{
      {2048, 512, 512}, {2048, 512, 1536}, {2048, 512, 2048}, {2048, 2048, 512}, {2048, 512, 32000}};
  const std::vector<Size> small{{4000, 128, 128}, {4000, 256, 1024},  {4000, 1024, 256},
                                {1000, 128, 512}, {1000, 128, 10000}, {16, 512, 512},
                                {4, 512, 2048},   {1, 512, 512},      {64, 512, 32000}};
  std::printf("{\"bench\":\"peak\",\"dtype\":\"%s\",\"threads\":%d,\"isa\":\"%s\",\"gflops\":%.1f}\n",
              name(dtype), num_threads(), cpu_isa().c_str(), peak_gflops(dtype));
  Percents percents;
  for (const bool is_base : {true, false}) {
    for (const Size& size : is_base ? base : small) {
      Percents* kept = is_base ? &percents : nullptr;
      dtype == DType::int8 ? bench_int8(size, kept) : bench_linear(size, dtype, kept);
    }
  }
  summarize("forward", dtype, percents["forward"]);
  if (dtype == DType::int8) return;
  std::vector<double>& gradients = percents["dx"];
  gradients.insert(gradients.end(), percents["dweight"].begin(), percents["dweight"].end());
  summarize("dx and dweight", dtype, gradients);
}

}  // namespace

}  // namespace dragoman::bench

int main() {
  using namespace dragoman;
  std::vector<int> thread_counts{1};
  if (num_threads() > 1) thread_counts.push_back(num_threads());
  for (const int threads : thread_counts) {
    set_num_threads(threads);
    for (const DType dtype : {DType::float32, DType::bfloat16, DType::int8}) bench::bench_dtype(dtype);
  }
}
