// Every op but the matrix product, which bench_gemm times, at the shapes of a training step. Google
// Benchmark's options apply: bench_ops --benchmark_filter=attention/base, --benchmark_format=json.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "core/backend.h"
#include "core/parallel.h"
#include "harness.h"
#include "peak.h"

int main(int argc, char** argv) {
  using namespace dragoman;
  using namespace dragoman::bench;
  const Model models[] = {{"base", 32, 64, 512, 8, 2048, 32000},
                          {"small", 64, 32, 256, 4, 1024, 8000},
                          {"tiny", 300, 14, 128, 4, 256, 10000}};
  for (const Model& model : models) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      add_attention(model, dtype);
      add_rowwise(model, dtype);
      add_embedding(model, dtype);
      add_losses(model, dtype);
    }
    add_kv_cache(model);
    add_optimizer(model);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("isa", cpu_isa());
  benchmark::AddCustomContext("threads", std::to_string(num_threads()));
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    benchmark::AddCustomContext(std::string("peak GFLOP/s ") + name(dtype),
                                std::to_string(peak_gflops(dtype)));
  }
  benchmark::RunSpecifiedBenchmarks();
}
