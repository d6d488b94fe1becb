#include "ops/cross_entropy.h"

#include "cpu/gemm/gemm.h"
#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Elements of ready logits' gradient that may stay in caches; a larger one goes past them.
constexpr int64_t most_kept = 1 << 21;

template <class T>
static float element(const T* x) {
  return load(x, FirstLanes{1})[0];
}
static float exp_of(float x) {
  return vexp(broadcast(x))[0];
}

// Of a row x of logits: softmax(x) = exp(x - most) / sum; total is the sum of x - most.
struct RowStatistics {
  float most, sum;
  double total;
};

// One pass: block by block, each of which stays in L1 while its largest element is found and its exponentials
// are added up. What was added before a larger element came is put in terms of that one.
template <class T>
static RowStatistics row_statistics(const T* x, int64_t vocabulary) {
  constexpr int64_t block = 1024;
  float most = -infinity;
  double sum = 0.0, total = 0.0;
  for (int64_t first = 0; first < vocabulary; first += block) {
    const T* x_first = x + first;
    const int64_t size = min_of(block, vocabulary - first);
    const float largest = largest_of(size, [&](int64_t i, auto part) { return load(x_first + i, part); });
    if (largest > most) {
      if (first > 0) {
        sum *= exp_of(most - largest);
        total -= static_cast<double>(first) * (static_cast<double>(largest) - most);
      }
      most = largest;
    }
    if (most == -infinity) continue;
    Vec total_lanes{};
    sum += sum_of(size, [&](int64_t i, auto part) {
      const Vec below = load(x_first + i, part) - most;
      total_lanes += keep(below, part);
      return vexp(below);
    });
    total += sum_lanes(total_lanes);
  }
  return {most, static_cast<float>(sum), total};
}

// log(sum) - (1 - smoothing) (x[id] - most) - smoothing mean(x - most); 0 where there is no target.
template <class T>
static float loss_of(const T* x, int64_t vocabulary, int32_t id, float smoothing, RowStatistics row) {
  if (id < 0) return 0.0f;
  const double target = static_cast<double>(element(x + id)) - row.most;
  double loss = __builtin_log(static_cast<double>(row.sum)) - (1.0 - smoothing) * target;
  if (smoothing > 0.0f) loss -= smoothing * row.total / static_cast<double>(vocabulary);
  return static_cast<float>(loss);
}

// dx = factor * (softmax(x) - target distribution). Unless it is streamed, dx may be x itself, or bfloat16 in
// the same memory.
template <bool streamed, class T, class U>
static void gradient_row(const T* x, U* dx, int64_t vocabulary, int32_t id, float smoothing, float factor,
                         float most, float sum) {
  if (id < 0) return zero(dx, vocabulary);
  const float multiplier = factor / sum;
  const float everywhere = factor * smoothing / static_cast<float>(vocabulary);
  const float at_id = exp_of(element(x + id) - most) * multiplier - everywhere - factor * (1.0f - smoothing);
  each_vector(vocabulary, [&](int64_t i, auto part) {
    const Vec gradient = vexp(load(x + i, part) - most) * multiplier - everywhere;
    if constexpr (streamed) {
      stream(dx + i, gradient, part);
    } else {
      store(dx + i, gradient, part);
    }
  });
  if constexpr (streamed) end_stream();
  store(dx + id, broadcast(at_id), FirstLanes{1});
}

// Row `row` of a batch: its loss and, where dx is given, its gradient, while the row is in a cache.
template <bool streamed, class T, class U, class Loss>
static RowStatistics take_row(const Loss& p, int64_t row, const T* x, U* dx) {
  const RowStatistics statistics = row_statistics(x, p.vocabulary);
  p.row_loss[row] = loss_of(x, p.vocabulary, p.ids[row], p.smoothing, statistics);
  if (dx != nullptr) {
    gradient_row<streamed>(x, dx, p.vocabulary, p.ids[row], p.smoothing, p.factor, statistics.most,
                           statistics.sum);
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
    parallel_for(in_use, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = row * p.vocabulary;
        T* dx = dlogits == nullptr ? nullptr : dlogits + first;
        const RowStatistics statistics = streamed ? take_row<true>(p, row, logits + first, dx)
                                                  : take_row<false>(p, row, logits + first, dx);
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
        take_row<false>(p, first + row, logits + row * p.vocabulary,
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
