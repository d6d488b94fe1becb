#include "harness.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "peak.h"

namespace dragoman::bench {

namespace {

uint32_t next_random() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state >> 33);
}

float widened(bfloat16 element) {
  const uint32_t bits = static_cast<uint32_t>(element.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

}  // namespace

Tensor random_tensor(const Shape& shape, DType dtype) {
  const Tensor tensor = Tensor::empty(shape, dtype);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const float element = static_cast<float>(next_random()) * 0x1p-30f - 1.0f;
    if (dtype == DType::bfloat16) {
      uint32_t bits;
      std::memcpy(&bits, &element, sizeof bits);
      tensor.data<bfloat16>()[i] = {static_cast<uint16_t>(bits >> 16)};
    } else {
      tensor.data<float>()[i] = element;
    }
  }
  return tensor;
}

Tensor random_ids(int64_t count, int64_t below) {
  const Tensor ids = Tensor::empty({count}, DType::int32);
  for (int64_t i = 0; i < count; ++i) ids.data<int32_t>()[i] = static_cast<int32_t>(next_random() % below);
  return ids;
}

double value(const Tensor& tensor, int64_t element) {
  return tensor.dtype() == DType::bfloat16 ? widened(tensor.data<bfloat16>()[element])
                                           : tensor.data<float>()[element];
}

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
