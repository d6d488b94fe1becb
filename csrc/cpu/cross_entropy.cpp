#include "ops/cross_entropy.h"

#include "core/storage.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/units.h"
#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Elements of ready logits' gradient that may stay in caches; a larger one goes past them.
constexpr int64_t most_kept = 1 << 21;

// A row of logits x is taken in blocks.
constexpr int64_t block_size = 512;
struct Block {
  float most;   // the largest x
  float sum;    // of exp(x - most)
  float total;  // of x - most
};

// Of a row x of logits: softmax(x) = exp(x - most) / sum; total is the sum of x - most.
struct RowStatistics {
  float most = -infinity;
  double sum = 0.0, total = 0.0;
};

// Leaves exp(x - most) in exps (size,), unless that is null. Meanwhile the next block is fetched to L1, and
// what is `ahead` of x to L2.
template <class T>
static Block take_block(const T* x, int64_t size, int64_t ahead, float* exps) {
  float most = largest_of(size, [&](int64_t i, auto part) { return load(x + i, part); });
  if (most == -infinity) most = -3.4e38f;  // x - most is to be -infinity, not NaN
  Vec total{};
  const float sum = sum_of(size, [&](int64_t i, auto part) {
    __builtin_prefetch(x + block_size + i, 0, 3);
    __builtin_prefetch(x + ahead + i, 0, 2);
    const Vec below = load(x + i, part) - most;
    total += keep(below, part);
    const Vec e = vexp2(below * log2_e);
    if (exps != nullptr) store(exps + i, e, part);
    return e;
  });
  return {most, sum, sum_lanes(total)};
}

// log(sum) - (1 - smoothing) (x[id] - most) - smoothing mean(x - most), `target` being x[id].
static float loss_of(float target, int64_t vocabulary, float smoothing, const RowStatistics& row) {
  double loss = __builtin_log(row.sum);
  loss -= (1.0 - smoothing) * (static_cast<double>(target) - row.most);
  if (smoothing > 0.0f) loss -= smoothing * row.total / static_cast<double>(vocabulary);
  return static_cast<float>(loss);
}

// Takes the rows of a batch one after the other. While a row's exponentials are made, which keeps the
// processor busy, the gradient of the row before is written, which keeps the memory busy.
template <class T, class U>
class Rows {
 public:
  // streamed: gradients go past the caches.
  Rows(int64_t vocabulary, float smoothing, float factor, bool streamed)
      : vocabulary_(vocabulary),
        target_(factor * (1.0f - smoothing)),
        everywhere_(factor * smoothing / static_cast<float>(vocabulary)),
        factor_(factor),
        streamed_(streamed) {}

  // Where dx is given, it becomes factor * (softmax(x) - target distribution), or 0 without a target, by the
  // end of the next call or of finish(). Until then exps (vocabulary,) and blocks stay as they are made here.
  // exps may be x itself; unless streamed, dx may be exps, or bfloat16 in the same memory.
  RowStatistics take(const T* x, int32_t id, float* exps, Block* blocks, U* dx) {
    RowStatistics row;
    each_block([&](int64_t first, int64_t size) {
      Block& block = blocks[first / block_size];
      block = take_block(x + first, size, vocabulary_, dx == nullptr ? nullptr : exps + first);
      if (block.most > row.most) row.most = block.most;
      write_gradient(first, size);
    });
    each_block([&](int64_t first, int64_t size) {
      const Block& block = blocks[first / block_size];
      const float below = block.most - row.most;
      row.sum += static_cast<double>(block.sum) * share(below);
      row.total += block.total + static_cast<double>(below) * static_cast<double>(size);
    });
    dx_ = dx;
    if (dx == nullptr) return row;
    id_ = id;
    exps_ = exps;
    blocks_ = blocks;
    most_ = row.most;
    multiplier_ = factor_ / static_cast<float>(row.sum);
    return row;
  }

  void finish() {
    each_block([&](int64_t first, int64_t size) { write_gradient(first, size); });
    if (streamed_) end_stream();
  }

 private:
  template <class Body>
  void each_block(const Body& body) const {
    for (int64_t first = 0; first < vocabulary_; first += block_size) {
      body(first, min_of(block_size, vocabulary_ - first));
    }
  }

  static float share(float below) { return vexp2(broadcast(below * log2_e))[0]; }

  // One block of the row taken last.
  void write_gradient(int64_t first, int64_t size) {
    if (dx_ == nullptr) return;
    U* dx = dx_ + first;
    if (id_ < 0) return zero(dx, size);
    const float* exps = exps_ + first;
    const float multiplier = multiplier_ * share(blocks_[first / block_size].most - most_);
    const int64_t id = id_ - first;
    const bool here = id >= 0 && id < size;
    const float at_id = here ? exps[id] * multiplier - everywhere_ - target_ : 0.0f;
    const bool streamed = streamed_ && !here;
    each_vector(size, [&](int64_t i, auto part) {
      const Vec gradient = load(exps + i, part) * multiplier - everywhere_;
      if (streamed) {
        stream(dx + i, gradient, part);
      } else {
        store(dx + i, gradient, part);
      }
    });
    if (here) store(dx + id, broadcast(at_id), FirstLanes{1});
  }

  int64_t vocabulary_;
  float target_, everywhere_, factor_;
  bool streamed_;

  // The row taken last: dx_ is null where its gradient is not wanted, or there is none.
  U* dx_ = nullptr;
  int32_t id_ = -1;
  const float* exps_ = nullptr;
  const Block* blocks_ = nullptr;
  float most_ = 0.0f, multiplier_ = 0.0f;
};

// Of a task: many where there are many, as only the last one's gradient is written alone.
static int64_t rows_of_task(int64_t rows, int64_t vocabulary) {
  return max_of(min_of(8, divide_up(rows, num_threads())), row_grain(vocabulary));
}

void cross_entropy_forward(const CrossEntropyForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  with_dtype(p.dtype, [&](auto element_type) {
    using T = decltype(element_type);
    const T* logits = static_cast<const T*>(p.logits);
    T* dlogits = static_cast<T*>(p.dlogits);
    const bool streamed =
        dlogits != nullptr && in_use * p.vocabulary > most_kept && p.vocabulary % lanes == 0;
    const int64_t exps_size = dlogits == nullptr ? 0 : round_up(p.vocabulary, 16);  // whole lines
    const int64_t num_blocks = divide_up(p.vocabulary, block_size);
    const Scratch all_exps(max_threads() * 2 * exps_size * static_cast<int64_t>(sizeof(float)));
    const Scratch all_blocks(max_threads() * 2 * num_blocks * static_cast<int64_t>(sizeof(Block)));
    parallel_for(in_use, rows_of_task(in_use, p.vocabulary), [&](int64_t begin, int64_t end) {
      float* exps = static_cast<float*>(all_exps.data) + thread_index() * 2 * exps_size;
      Block* blocks = static_cast<Block*>(all_blocks.data) + thread_index() * 2 * num_blocks;
      Rows<T, T> rows(p.vocabulary, p.smoothing, p.factor, streamed);
      for (int64_t row = begin; row < end; ++row) {
        const T* x = logits + row * p.vocabulary;
        const int32_t id = p.ids[row];
        const RowStatistics statistics =
            rows.take(x, id, exps + row % 2 * exps_size, blocks + row % 2 * num_blocks,
                      dlogits == nullptr ? nullptr : dlogits + row * p.vocabulary);
        p.row_loss[row] =
            id < 0 ? 0.0f : loss_of(load(x + id, FirstLanes{1})[0], p.vocabulary, p.smoothing, statistics);
        p.softmax[2 * row] = statistics.most;
        p.softmax[2 * row + 1] = static_cast<float>(statistics.sum);
      }
      rows.finish();
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
  const int64_t num_blocks = divide_up(p.vocabulary, block_size);
  const Scratch all_blocks(max_threads() * 2 * num_blocks * static_cast<int64_t>(sizeof(Block)));
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
    parallel_for(rows, rows_of_task(rows, p.vocabulary), [&](int64_t begin, int64_t end) {
      Block* blocks = static_cast<Block*>(all_blocks.data) + thread_index() * 2 * num_blocks;
      Rows<float, T> taken(p.vocabulary, p.smoothing, p.factor, false);
      for (int64_t row = begin; row < end; ++row) {
        float* x_row = logits + row * p.vocabulary;
        const int32_t id = p.ids[first + row];
        const float target = id < 0 ? 0.0f : x_row[id];
        const RowStatistics statistics = taken.take(x_row, id, x_row, blocks + row % 2 * num_blocks,
                                                    need_gradient ? dlogits + row * dlogits_ld : nullptr);
        p.row_loss[first + row] = id < 0 ? 0.0f : loss_of(target, p.vocabulary, p.smoothing, statistics);
      }
      taken.finish();
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
