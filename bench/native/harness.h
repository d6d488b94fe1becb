// What the benchmarks of ops share: shapes, checks, how a case is timed and reported.
#pragma once

#include <functional>
#include <string>

#include "tensors.h"

namespace dragoman::bench {

struct Model {
  const char* name;
  int64_t sequences, length;  // a batch has `sequences` sentences on each side, each of `length` tokens
  int64_t d_model, num_heads, d_ff, vocabulary;

  int64_t tokens() const { return sequences * length; }
};

// Ends the program where |got - expected| exceeds what rounding in `dtype` does to sums of this magnitude.
void expect_close(const char* what, double got, double expected, double magnitude, DType dtype);

// The work of one call, by operations or by bytes; the given one is measured against the machine's peak.
struct Work {
  double flop = 0.0;
  double bytes = 0.0;  // read and written at least
};

struct Case {
  Work work;
  std::function<void()> run;    // one call, its results kept
  std::function<void()> check;  // the kept results against plain float64 loops
};

// A benchmark "op/model/dtype". `make` is called when the benchmark runs, so only its own tensors exist then.
void add_case(const std::string& op, const Model& model, DType dtype, const std::function<Case()>& make);

// Runs the cases whose title holds `only`, each for `seconds` after a checked first call. One JSON line each.
void run_cases(const std::string& only, double seconds);

// The ops by subject. Each adds its cases for one model and one dtype of activations, or float32 alone.
void add_products(const Model& model, DType dtype);
void add_attention(const Model& model, DType dtype);
void add_rowwise(const Model& model, DType dtype);
void add_embedding(const Model& model, DType dtype);
void add_losses(const Model& model, DType dtype);
void add_kv_cache(const Model& model);
void add_optimizer(const Model& model);

}  // namespace dragoman::bench
