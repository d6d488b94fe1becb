#include "harness.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/backend.h"
#include "core/parallel.h"
#include "peak.h"

namespace dragoman::bench {

namespace {

struct Named {
  std::string title;
  DType dtype;
  std::function<Case()> make;
};

std::vector<Named>& all_cases() {
  static std::vector<Named> cases;
  return cases;
}

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_case(const Named& named, double seconds) {
  const Case one = named.make();
  one.run();
  one.check();
  std::vector<double> times;
  double spent = 0.0;
  while (times.size() < 3 || spent < seconds) {
    times.push_back(seconds_of(one.run));
    spent += times.back();
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const bool computes = one.work.flop > 0.0;
  const double rate = 1e-9 * (computes ? one.work.flop : one.work.bytes) / median;
  const double peak = computes ? peak_gflops(named.dtype) : stream_gbytes(one.work.bytes);
  std::printf(
      "{\"bench\": \"native ops\", \"op\": \"%s\", \"threads\": %d, \"isa\": \"%s\", \"us\": %.2f, "
      "\"%s\": %.1f, \"percent_of_peak\": %.1f}\n",
      named.title.c_str(), num_threads(), cpu_isa().c_str(), 1e6 * median, computes ? "gflops" : "gbytes",
      rate, 100.0 * rate / peak);
  std::fflush(stdout);
}

}  // namespace

void expect_close(const char* what, double got, double expected, double magnitude, DType dtype) {
  const double rounding = dtype == DType::bfloat16 ? 0x1p-7 : 1e-5;
  if (std::abs(got - expected) <= rounding * magnitude) return;
  std::fprintf(stderr, "%s in %s: got %.9g, expected %.9g\n", what, name(dtype), got, expected);
  std::exit(1);
}

void add_case(const std::string& op, const Model& model, DType dtype, const std::function<Case()>& make) {
  all_cases().push_back({op + "/" + model.name + "/" + name(dtype), dtype, make});
}

void run_cases(const std::string& only, double seconds) {
  for (const Named& named : all_cases()) {
    if (named.title.find(only) != std::string::npos) run_case(named, seconds);
  }
}

}  // namespace dragoman::bench
