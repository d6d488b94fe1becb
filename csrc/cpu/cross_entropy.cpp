#include "ops/cross_entropy.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/units.h"
#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Elements of ready logits' gradient that may stay in caches; a larger one goes past them.
constexpr int64_t most_kept = 1 << 21;

// Of a row x of logits: softmax(x) = exp(x - most) / sum; total is the sum of x - most.
struct RowStatistics {
  float most, sum;
  double total;
};

// The second pass finds the row in a cache, and meanwhile the matrix's next row is fetched. It goes in
// blocks, whose sums are added in float64, and leaves exp(x - most) in exps (vocabulary,) unless that is
// null; exps may be x itself.
template <class T>
static RowStatistics row_statistics(const T* x, int64_t vocabulary, float* exps) {
  constexpr int64_t block = 1024;
  const float most = largest_of(vocabulary, [&](int64_t i, auto part) { return load(x + i, part); });
  double sum = 0.0, total = 0.0;
  for (int64_t first = 0; first < vocabulary; first += block) {
    Vec total_lanes{};
    sum += sum_of(min_of(block, vocabulary - first), [&](int64_t i, auto part) {
      __builtin_prefetch(x + vocabulary + first + i, 0, 2);
      const Vec below = load(x + first + i, part) - most;
      total_lanes += keep(below, part);
      const Vec e = vexp(below);
      if (exps != nullptr) store(exps + first + i, e, part);
      return e;
    });
    total += sum_lanes(total_lanes);
  }
  return {most, static_cast<float>(sum), total};
}

// log(sum) - (1 - smoothing) (x[id] - most) - smoothing mean(x - most), `target` being x[id].
static float loss_of(float target, int64_t vocabulary, float smoothing, RowStatistics row) {
  double loss = __builtin_log(static_cast<double>(row.sum));
  loss -= (1.0 - smoothing) * (static_cast<double>(target) - row.most);
  if (smoothing > 0.0f) loss -= smoothing * row.total / static_cast<double>(vocabulary);
  return static_cast<float>(loss);
}

// dx = factor * (exps / sum - target distribution). Unless it is streamed, dx may be exps itself, or bfloat16
// in the same memory.
template <class T>
static void gradient_row(bool streamed, const float* exps, T* dx, int64_t vocabulary, int32_t id,
                         float smoothing, float factor, float sum) {
  const float multiplier = factor / sum;
  const float everywhere = factor * smoothing / static_cast<float>(vocabulary);
  const float at_id = exps[id] * multiplier - everywhere - factor * (1.0f - smoothing);
  each_vector(vocabulary, [&](int64_t i, auto part) {
    const Vec gradient = load(exps + i, part) * multiplier - everywhere;
    if (streamed) {
      stream(dx + i, gradient, part);
    } else {
      store(dx + i, gradient, part);
    }
  });
  if (streamed) end_stream();
  store(dx + id, broadcast(at_id), FirstLanes{1});
}

// Row `row` of a batch: its loss and, where dx is given, its gradient by way of exps, while the row is in a
// cache. Both are 0 where there is no target.
template <class T, class U, class Loss>
static RowStatistics take_row(const Loss& p, bool streamed, int64_t row, const T* x, float* exps, U* dx) {
  const int32_t id = p.ids[row];
  const float target = id < 0 ? 0.0f : load(x + id, FirstLanes{1})[0];
  const RowStatistics statistics = row_statistics(x, p.vocabulary, dx == nullptr ? nullptr : exps);
  p.row_loss[row] = id < 0 ? 0.0f : loss_of(target, p.vocabulary, p.smoothing, statistics);
  if (dx == nullptr) return statistics;
  if (id < 0) {
    zero(dx, p.vocabulary);
  } else {
    gradient_row(streamed, exps, dx, p.vocabulary, id, p.smoothing, p.factor, statistics.sum);
  }
  return statistics;
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  with_dtype(p.dtype, [&](auto element_type) {
    using T = decltype(element_type);
    const T* logits = static_cast<const T*>(p.logits);
    T* dlogits = static_cast<T*>(p.dlogits);
    const bool streamed = in_use * p.vocabulary > most_kept && p.vocabulary % lanes == 0;
    const int64_t size = dlogits == nullptr ? 0 : round_up(p.vocabulary, 16);  // whole lines
    const Scratch scratch(max_threads() * size * static_cast<int64_t>(sizeof(float)));
    parallel_for(in_use, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
      float* exps = static_cast<float*>(scratch.data) + thread_index() * size;
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = row * p.vocabulary;
        T* dx = dlogits == nullptr ? nullptr : dlogits + first;
        const RowStatistics statistics = take_row(p, streamed, row, logits + first, exps, dx);
        p.softmax[2 * row] = statistics.most;
        p.softmax[2 * row + 1] = statistics.sum;
      }
    });
    if (dlogits != nullptr) zero(dlogits + in_use * p.vocabulary, (p.rows - in_use) * p.vocabulary);
  });
  zero(p.row_loss + in_use, p.rows - in_use);
  zero(p.softmax + 2 * in_use, 2 * (p.rows - in_use));
}

// Per chunk: logits (chunk_rows, vocabulary) = x weight^T + bias, float32; losses, and dlogits in the same
// memory; then the products with them.
template <class T>
static void project_and_take_loss(const LinearCrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  const bool need_gradient = p.dx != nullptr || p.dweight != nullptr || p.dbias != nullptr;
  float* logits = p.logits;
  T* dlogits = static_cast<T*>(static_cast<void*>(p.logits));  // row r begins where row r of the logits does
  const int64_t dlogits_ld = p.vocabulary * static_cast<int64_t>(sizeof(float) / sizeof(T));
  T* dx = static_cast<T*>(p.dx);
  for (int64_t first = 0; first < in_use; first += p.chunk_rows) {
    const int64_t rows = min_of(p.chunk_rows, in_use - first);
    const T* x = static_cast<const T*>(p.x) + first * p.features;
    gemm({.m = rows,
          .n = p.vocabulary,
          .k = p.features,
          .a = x,
          .lda = p.features,
          .b = p.weight,
          .ldb = p.features,
          .transpose_b = true,
          .c = logits,
          .ldc = p.vocabulary,
          .bias = p.bias,
          .dtype = p.dtype});
    parallel_for(rows, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float* logits_row = logits + row * p.vocabulary;
        take_row(p, false, first + row, logits_row, logits_row,
                 need_gradient ? dlogits + row * dlogits_ld : nullptr);
      }
    });
    if (dx != nullptr) {
      gemm({.m = rows,
            .n = p.features,
            .k = p.vocabulary,
            .a = dlogits,
            .lda = dlogits_ld,
            .b = p.weight,
            .ldb = p.features,
            .c = dx + first * p.features,
            .ldc = p.features,
            .dtype = p.dtype,
            .c_dtype = p.dtype});
    }
    if (p.dweight != nullptr) {
      gemm({.m = p.vocabulary,
            .n = p.features,
            .k = rows,
            .a = dlogits,
            .lda = dlogits_ld,
            .transpose_a = true,
            .b = x,
            .ldb = p.features,
            .c = p.dweight,
            .ldc = p.features,
            .accumulate = first > 0,
            .dtype = p.dtype});
    }
    if (p.dbias != nullptr) sum_rows(dlogits, dlogits_ld, rows, p.vocabulary, first > 0, p.dbias);
  }
  zero(p.row_loss + in_use, p.rows - in_use);
  if (dx != nullptr) zero(dx + in_use * p.features, (p.rows - in_use) * p.features);
  if (in_use == 0 && p.dweight != nullptr) zero(p.dweight, p.vocabulary * p.features);
  if (in_use == 0 && p.dbias != nullptr) zero(p.dbias, p.vocabulary);
}

void linear_cross_entropy_forward(const LinearCrossEntropyForward& p) {
  with_dtype(p.dtype, [&](auto element_type) { project_and_take_loss<decltype(element_type)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
