#include "ops/cross_entropy.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/kernels.h"
#include "cpu/loss_rows.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// A gradient of more elements than this is stored past the caches.
constexpr int64_t most_kept = 1 << 21;

LossChunk loss_chunk(int64_t rows, int64_t vocabulary, DType dtype) {
  // Each chunk reads the weight twice and adds to all of dweight, so shorter chunks cost time. Longer ones
  // take memory, and the product for dweight sums them in more than one stretch.
  constexpr int64_t maximum_rows = 512, maximum_bytes = 56 << 20;
  const int64_t size = dtype == DType::bfloat16 ? 2 : 4, line = 64 / size;
  // An odd number of cache lines: neighbouring rows begin in different sets of a cache.
  const int64_t logits_row = (divide_up(vocabulary, line) | 1) * line;
  const int64_t affordable = min_of(maximum_rows, max_of(1, maximum_bytes / (logits_row * size)));
  const int64_t chunks = max_of(1, divide_up(rows, affordable));
  return {min_of(affordable, divide_up(rows, chunks * 32) * 32), logits_row};  // chunks of like sizes
}

// Writes all but the loss.
template <class T>
static void take_losses(const CrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.rows);
  const T* logits = static_cast<const T*>(p.logits);
  T* dlogits = static_cast<T*>(p.dlogits);
  const bool streamed = dlogits != logits && in_use * p.vocabulary > most_kept && p.logits_row % lanes == 0;
  const int64_t exps_size = dlogits == nullptr ? 0 : round_up(p.vocabulary, 16);  // whole lines
  const int64_t num_blocks = divide_up(p.vocabulary, block_size);
  const Scratch all_exps(max_threads() * 2 * exps_size * static_cast<int64_t>(sizeof(float)));
  const Scratch all_blocks(max_threads() * 2 * num_blocks * static_cast<int64_t>(sizeof(Block)));
  const float factor = *p.factor;
  parallel_for(in_use, rows_of_task(in_use, p.vocabulary), [&](int64_t begin, int64_t end) {
    float* exps = static_cast<float*>(all_exps.data) + thread_index() * 2 * exps_size;
    Block* blocks = static_cast<Block*>(all_blocks.data) + thread_index() * 2 * num_blocks;
    LossRows<T> rows(p.vocabulary, p.smoothing, factor, streamed);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * p.logits_row;
      const RowStatistics taken =
          rows.take(logits + first, p.ids[row], exps + row % 2 * exps_size, blocks + row % 2 * num_blocks,
                    dlogits == nullptr ? nullptr : dlogits + first);
      p.row_loss[row] = taken.loss;
      if (p.softmax == nullptr) continue;
      p.softmax[2 * row] = taken.maximum;
      p.softmax[2 * row + 1] = taken.sum;
    }
    rows.finish();
  });
  zero(p.row_loss + in_use, p.rows.capacity - in_use);
  if (p.softmax != nullptr) zero(p.softmax + 2 * in_use, 2 * (p.rows.capacity - in_use));
  if (dlogits != nullptr) zero(dlogits + in_use * p.logits_row, (p.rows.capacity - in_use) * p.logits_row);
}

// In row order, whatever the threads.
static float mean_loss(const float* row_loss, int64_t rows, float factor) {
  double total = 0.0;
  for (int64_t row = 0; row < rows; ++row) total += static_cast<double>(row_loss[row]);
  return static_cast<float>(total * static_cast<double>(factor));
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  with_dtype(p.dtype, [&](auto element) { take_losses<decltype(element)>(p); });
  *p.loss = mean_loss(p.row_loss, rows_in_use(p.rows), *p.factor);
}

// For each chunk: logits = x weight^T + bias, then losses and dlogits (which overwrite the logits), then the
// products with dlogits.
template <class T>
static void project_and_take_loss(const LinearCrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.rows);
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
    take_losses<T>({.logits = logits,
                    .logits_row = p.logits_row,
                    .ids = p.ids + first,
                    .loss = nullptr,
                    .row_loss = p.row_loss + first,
                    .softmax = nullptr,
                    .dlogits = need_gradient ? logits : nullptr,
                    .dtype = p.dtype,
                    .rows = all_rows(rows),
                    .vocabulary = p.vocabulary,
                    .smoothing = p.smoothing,
                    .factor = p.factor});
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
  zero(p.row_loss + in_use, p.rows.capacity - in_use);
  if (dx != nullptr) zero(dx + in_use * p.features, (p.rows.capacity - in_use) * p.features);
  if (in_use == 0 && p.dweight != nullptr) zero(p.dweight, p.vocabulary * p.features);
  if (in_use == 0 && p.dbias != nullptr) zero(p.dbias, p.vocabulary);
  *p.loss = mean_loss(p.row_loss, in_use, *p.factor);
}

void linear_cross_entropy_forward(const LinearCrossEntropyForward& p) {
  with_dtype(p.dtype, [&](auto element_type) { project_and_take_loss<decltype(element_type)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
