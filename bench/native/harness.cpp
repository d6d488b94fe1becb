#include "harness.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "peak.h"

namespace dragoman::bench {

void expect_close(const char* what, double got, double expected, double magnitude, DType dtype) {
  const double rounding = dtype == DType::bfloat16 ? 0x1p-7 : 1e-5;
  if (std::abs(got - expected) <= rounding * magnitude) return;
  std::fprintf(stderr, "%s in %s: got %.9g, expected %.9g\n", what, name(dtype), got, expected);
  std::exit(1);
}

void add_case(const std::string& op, const Model& model, DType dtype, const std::function<Case()>& make) {
  const std::string title = op + "/" + model.name + "/" + name(dtype);
  const auto body = [=](benchmark::State& state) {
    static std::set<std::string> checked;
    const Case one = make();
    one.run();
    if (checked.insert(title).second) one.check();
    const auto start = std::chrono::steady_clock::now();
    for (auto _ : state) one.run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                           static_cast<double>(state.iterations());
    const bool computes = one.work.flop > 0.0;
    const double rate = 1e-9 * (computes ? one.work.flop : one.work.bytes) / seconds;
    const double peak = computes ? peak_gflops(dtype) : stream_gbytes(one.work.bytes);
    state.counters[computes ? "GFLOP/s" : "GB/s"] = rate;
    state.counters["% of peak"] = 100.0 * rate / peak;
  };
  benchmark::RegisterBenchmark(title.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace dragoman::bench
