#include "ops/cross_entropy.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Rows of logits that exist at a time in linear_cross_entropy. Each chunk reads and writes all of dweight, so
// shorter chunks cost traffic; longer ones leave the cache.
constexpr int64_t chunk_rows = 256;
constexpr int64_t slice_columns = 256;

// The softmax of a row is exp(x - most) / sum.
struct RowSoftmax {
  float most, sum;
};

static RowSoftmax row_softmax(const float* x, int64_t vocabulary) {
  const float most = largest_of(vocabulary, [&](int64_t i, auto part) { return load(x + i, part); });
  const float sum = sum_of(vocabulary, [&](int64_t i, auto part) { return vexp(load(x + i, part) - most); });
  return {most, sum};
}

static float logsumexp_of(RowSoftmax softmax) {
  return static_cast<float>(softmax.most + __builtin_log(static_cast<double>(softmax.sum)));
}

// log(sum) - (1 - smoothing) (x[id] - most) - smoothing mean(x - most); 0 where there is no target.
static float loss_of(const float* x, int64_t vocabulary, int32_t id, float smoothing, RowSoftmax softmax) {
  if (id < 0) return 0.0f;
  const double most = softmax.most;
  double loss = __builtin_log(static_cast<double>(softmax.sum)) - (1.0 - smoothing) * (x[id] - most);
  if (smoothing > 0.0f) {
    const float total =
        sum_of(vocabulary, [&](int64_t i, auto part) { return load(x + i, part) - softmax.most; });
    loss -= static_cast<double>(smoothing) * total / static_cast<double>(vocabulary);
  }
  return static_cast<float>(loss);
}

// dx = factor * (softmax - target distribution), dx may be x. Two passes, exponentials and their sum first:
// `shift`, the row's largest logit or its logsumexp, is a rounded number, and dividing by the sum takes its
// error out.
static void gradient_row(const float* x, float* dx, int64_t vocabulary, int32_t id, float smoothing,
                         float factor, float shift) {
  if (id < 0) return zero(dx, vocabulary);
  const float sum = sum_of(vocabulary, [&](int64_t i, auto part) {
    const Vec e = vexp(load(x + i, part) - shift);
    store(dx + i, e, part);
    return e;
  });
  const float multiplier = factor / sum;
  const float everywhere = factor * smoothing / static_cast<float>(vocabulary);
  each_vector(vocabulary, [&](int64_t i, auto part) {
    store(dx + i, load(dx + i, part) * multiplier - everywhere, part);
  });
  dx[id] -= factor * (1.0f - smoothing);
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  parallel_for(in_use, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* logits_row = p.logits + row * p.vocabulary;
      const RowSoftmax softmax = row_softmax(logits_row, p.vocabulary);
      p.row_loss[row] = loss_of(logits_row, p.vocabulary, p.ids[row], p.smoothing, softmax);
      p.logsumexp[row] = logsumexp_of(softmax);
    }
  });
  zero(p.row_loss + in_use, p.rows - in_use);
  zero(p.logsumexp + in_use, p.rows - in_use);
}

void cross_entropy_backward(const CrossEntropyBackward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  parallel_for(in_use, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      gradient_row(p.logits + row * p.vocabulary, p.dlogits + row * p.vocabulary, p.vocabulary, p.ids[row],
                   p.smoothing, p.factor, p.logsumexp[row]);
    }
  });
  zero(p.dlogits + in_use * p.vocabulary, (p.rows - in_use) * p.vocabulary);
}

// dbias (vocabulary,) (+)= the sum of the chunk's rows, in order.
static void add_rows(const float* dlogits, int64_t rows, int64_t vocabulary, bool accumulate, float* dbias) {
  parallel_for(vocabulary, slice_columns, [&](int64_t begin, int64_t end) {
    float sum[slice_columns] = {};
    for (int64_t row = 0; row < rows; ++row) {
      const float* dlogits_row = dlogits + row * vocabulary + begin;
      each_vector(end - begin, [&](int64_t i, auto part) {
        store(sum + i, load(sum + i, part) + load(dlogits_row + i, part), part);
      });
    }
    each_vector(end - begin, [&](int64_t i, auto part) {
      const Vec before = accumulate ? load(dbias + begin + i, part) : Vec{};
      store(dbias + begin + i, before + load(sum + i, part), part);
    });
  });
}

// Per chunk: logits (chunk_rows, vocabulary) = x weight^T + bias; losses, and in place dlogits; then the
// three products.
void linear_cross_entropy_forward(const LinearCrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  const bool need_gradient = p.dx != nullptr || p.dweight != nullptr || p.dbias != nullptr;
  const Scratch scratch(min_of(chunk_rows, in_use) * p.vocabulary * static_cast<int64_t>(sizeof(float)));
  float* logits = static_cast<float*>(scratch.data);
  for (int64_t first = 0; first < in_use; first += chunk_rows) {
    const int64_t rows = min_of(chunk_rows, in_use - first);
    const float* x = p.x + first * p.features;
    gemm({.m = rows,
          .n = p.vocabulary,
          .k = p.features,
          .a = x,
          .lda = p.features,
          .transpose_a = false,
          .b = p.weight,
          .ldb = p.features,
          .transpose_b = true,
          .c = logits,
          .ldc = p.vocabulary,
          .accumulate = false,
          .bias = p.bias,
          .activation = Activation::none,
          .pre = nullptr});
    parallel_for(rows, row_grain(p.vocabulary), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float* logits_row = logits + row * p.vocabulary;
        const int32_t id = p.ids[first + row];
        const RowSoftmax softmax = row_softmax(logits_row, p.vocabulary);
        p.row_loss[first + row] = loss_of(logits_row, p.vocabulary, id, p.smoothing, softmax);
        if (need_gradient) {
          gradient_row(logits_row, logits_row, p.vocabulary, id, p.smoothing, p.factor, softmax.most);
        }
      }
    });
    if (p.dx != nullptr) {
      gemm({.m = rows,
            .n = p.features,
            .k = p.vocabulary,
            .a = logits,
            .lda = p.vocabulary,
            .transpose_a = false,
            .b = p.weight,
            .ldb = p.features,
            .transpose_b = false,
            .c = p.dx + first * p.features,
            .ldc = p.features,
            .accumulate = false,
            .bias = nullptr,
            .activation = Activation::none,
            .pre = nullptr});
    }
    if (p.dweight != nullptr) {
      gemm({.m = p.vocabulary,
            .n = p.features,
            .k = rows,
            .a = logits,
            .lda = p.vocabulary,
            .transpose_a = true,
            .b = x,
            .ldb = p.features,
            .transpose_b = false,
            .c = p.dweight,
            .ldc = p.features,
            .accumulate = first > 0,
            .bias = nullptr,
            .activation = Activation::none,
            .pre = nullptr});
    }
    if (p.dbias != nullptr) add_rows(logits, rows, p.vocabulary, first > 0, p.dbias);
  }
  zero(p.row_loss + in_use, p.rows - in_use);
  if (p.dx != nullptr) zero(p.dx + in_use * p.features, (p.rows - in_use) * p.features);
  if (in_use == 0 && p.dweight != nullptr) zero(p.dweight, p.vocabulary * p.features);
  if (in_use == 0 && p.dbias != nullptr) zero(p.dbias, p.vocabulary);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
