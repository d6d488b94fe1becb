#include "ops/cross_entropy.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/kernels.h"
#include "cpu/loss_rows.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Elements of ready logits' gradient that may stay in caches; a larger one goes past them.
constexpr int64_t most_kept = 1 << 21;

// Losses of `rows` rows of logits, `row` elements apart: row_loss (rows,), the softmax's statistics (rows, 2)
// and dlogits, as the logits lie, where these are wanted. dlogits may be the logits.
template <class T>
static void take_losses(int64_t rows, int64_t vocabulary, const T* logits, int64_t row, const int32_t* ids,
                        float smoothing, float factor, bool streamed, float* row_loss, float* softmax,
                        T* dlogits) {
  const int64_t exps_size = dlogits == nullptr ? 0 : round_up(vocabulary, 16);  // whole lines
  const int64_t num_blocks = divide_up(vocabulary, block_size);
  const Scratch all_exps(max_threads() * 2 * exps_size * static_cast<int64_t>(sizeof(float)));
  const Scratch all_blocks(max_threads() * 2 * num_blocks * static_cast<int64_t>(sizeof(Block)));
  parallel_for(rows, rows_of_task(rows, vocabulary), [&](int64_t begin, int64_t end) {
    float* exps = static_cast<float*>(all_exps.data) + thread_index() * 2 * exps_size;
    Block* blocks = static_cast<Block*>(all_blocks.data) + thread_index() * 2 * num_blocks;
    LossRows<T> loss_rows(vocabulary, smoothing, factor, streamed);
    for (int64_t i = begin; i < end; ++i) {
      const RowStatistics taken =
          loss_rows.take(logits + i * row, ids[i], exps + i % 2 * exps_size, blocks + i % 2 * num_blocks,
                         dlogits == nullptr ? nullptr : dlogits + i * row);
      row_loss[i] = taken.loss;
      if (softmax == nullptr) continue;
      softmax[2 * i] = taken.most;
      softmax[2 * i + 1] = taken.sum;
    }
    loss_rows.finish();
  });
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    T* dlogits = static_cast<T*>(p.dlogits);
    const bool streamed = in_use * p.vocabulary > most_kept && p.vocabulary % lanes == 0;
    take_losses(in_use, p.vocabulary, static_cast<const T*>(p.logits), p.vocabulary, p.ids, p.smoothing,
                p.factor, streamed, p.row_loss, p.softmax, dlogits);
    if (dlogits != nullptr) zero(dlogits + in_use * p.vocabulary, (p.rows - in_use) * p.vocabulary);
  });
  zero(p.row_loss + in_use, p.rows - in_use);
  zero(p.softmax + 2 * in_use, 2 * (p.rows - in_use));
}

// Per chunk: logits = x weight^T + bias; losses, and dlogits in the logits' place; the products with them.
template <class T>
static void project_and_take_loss(const LinearCrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  const bool need_gradient = p.dx != nullptr || p.dweight != nullptr || p.dbias != nullptr;
  T* logits = static_cast<T*>(p.logits);
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
          .ldc = p.logits_row,
          .bias = p.bias,
          .dtype = p.dtype,
          .c_dtype = p.dtype});
    take_losses(rows, p.vocabulary, logits, p.logits_row, p.ids + first, p.smoothing, p.factor, false,
                p.row_loss + first, nullptr, need_gradient ? logits : nullptr);
    if (dx != nullptr) {
      gemm({.m = rows,
            .n = p.features,
            .k = p.vocabulary,
            .a = logits,
            .lda = p.logits_row,
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
            .a = logits,
            .lda = p.logits_row,
            .transpose_a = true,
            .b = x,
            .ldb = p.features,
            .c = p.dweight,
            .ldc = p.features,
            .accumulate = first > 0,
            .dtype = p.dtype});
    }
    if (p.dbias != nullptr) sum_rows(logits, p.logits_row, rows, p.vocabulary, first > 0, p.dbias);
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
