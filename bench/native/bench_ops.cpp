// bench_ops [--only TEXT] [--seconds X]: every op at the shapes of a training step, against the machine's
// peak. OMP_NUM_THREADS sets the threads, DRAGOMAN_ISA the instruction set.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "harness.h"

int main(int argc, char** argv) {
  using namespace dragoman;
  using namespace dragoman::bench;
  std::string only;
  double seconds = 0.2;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    if (i + 1 == argc || (option != "--only" && option != "--seconds")) {
      std::fprintf(stderr, "usage: bench_ops [--only TEXT] [--seconds X]\n");
      return 2;
    }
    if (option == "--only") only = argv[i + 1];
    if (option == "--seconds") seconds = std::atof(argv[i + 1]);
  }
  const Model models[] = {{"base", 32, 64, 512, 8, 2048, 32000},
                          {"small", 64, 32, 256, 4, 1024, 8000},
                          {"tiny", 300, 14, 128, 4, 256, 10000}};
  for (const Model& model : models) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      add_products(model, dtype);
      add_attention(model, dtype);
      add_rowwise(model, dtype);
      add_embedding(model, dtype);
      add_losses(model, dtype);
    }
    add_products(model, DType::int8);
    add_kv_cache(model);
    add_optimizer(model);
  }
  run_cases(only, seconds);
}
