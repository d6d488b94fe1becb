// The losses and gradients of rows of logits.
#pragma once

#include "cpu/gemm/units.h"
#include "cpu/isa/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// A row of logits x is computed in blocks of block_size.
constexpr int64_t block_size = 512;
struct Block {
  float maximum;  // of x
  float sum;      // of exp(x - maximum)
  float total;    // of x - maximum
  float share;    // exp(maximum - maximum of the row)
};

// Of a row x of logits: softmax(x) = exp(x - maximum) / sum. The loss is 0 without a target. Maximum and sum
// are kept separately: rounding one logsumexp would skew every probability in the row.
struct RowStatistics {
  float maximum, sum, loss;
};

// Writes exp(x - maximum) to exps (size,), unless that is null. Prefetches the next block to L1, and the
// elements `ahead` of x to L2.
template <class T>
static Block take_block(const T* x, int64_t size, int64_t ahead, float* exps) {
  float maximum = largest_of(size, [&](int64_t i, auto part) { return load(x + i, part); });
  if (maximum == -infinity) maximum = -3.4e38f;  // so that x - maximum is -infinity, not NaN
  Vec total{};
  const float sum = sum_of(size, [&](int64_t i, auto part) {
    __builtin_prefetch(x + block_size + i, 0, 3);
    __builtin_prefetch(x + ahead + i, 0, 2);
    const Vec below = load(x + i, part) - maximum;
    total += keep(below, part);
    const Vec e = vexp2(below * log2_e);
    if (exps != nullptr) store(exps + i, e, part);
    return e;
  });
  return {maximum, sum, sum_lanes(total), 0.0f};
}

// Takes the rows of a batch one after the other. Computes the exponentials of a row, which keeps the
// processor busy, while it writes the gradient of the row before, which keeps the memory busy.
template <class T>
class LossRows {
 public:
  // streamed: stores gradients past the caches.
  LossRows(int64_t vocabulary, float smoothing, float factor, bool streamed)
      : vocabulary_(vocabulary), smoothing_(smoothing), factor_(factor), streamed_(streamed) {}

  // Unless dx is null, dx = factor * (softmax(x) - target distribution), or 0 without a target. It is
  // complete after the next call of take() or finish(). Until then the caller must not change exps
  // (vocabulary,) and blocks. dx may be x.
  RowStatistics take(const T* x, int32_t id, float* exps, Block* blocks, T* dx) {
    const float target = id < 0 ? 0.0f : load(x + id, FirstLanes{1})[0];
    float maximum = -infinity;
    each_block([&](int64_t first, int64_t size) {
      Block& block = blocks[first / block_size];
      block = take_block(x + first, size, vocabulary_, dx == nullptr ? nullptr : exps + first);
      if (block.maximum > maximum) maximum = block.maximum;
      write_gradient(first, size);
    });
    double sum = 0.0, total = 0.0;  // of exp(x - maximum), of x - maximum
    each_block([&](int64_t first, int64_t size) {
      Block& block = blocks[first / block_size];
      const float below = block.maximum - maximum;
      block.share = vexp2(broadcast(below * log2_e))[0];
      sum += static_cast<double>(block.sum) * block.share;
      total += block.total + static_cast<double>(below) * static_cast<double>(size);
    });
    dx_ = dx;
    id_ = id;
    exps_ = exps;
    blocks_ = blocks;
    multiplier_ = factor_ / static_cast<float>(sum);
    return {maximum, static_cast<float>(sum),
            id < 0 ? 0.0f : loss_of(static_cast<double>(target) - maximum, sum, total)};
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

  // `below` is x[id] - maximum.
  float loss_of(double below, double sum, double total) const {
    double loss = __builtin_log(sum) - (1.0 - smoothing_) * below;
    if (smoothing_ > 0.0f) loss -= smoothing_ * total / static_cast<double>(vocabulary_);
    return static_cast<float>(loss);
  }

  // Writes one block of the gradient of the row taken last.
  void write_gradient(int64_t first, int64_t size) {
    if (dx_ == nullptr) return;
    T* dx = dx_ + first;
    if (id_ < 0) return zero(dx, size);
    const float* exps = exps_ + first;
    const float multiplier = multiplier_ * blocks_[first / block_size].share;
    const float everywhere = factor_ * smoothing_ / static_cast<float>(vocabulary_);
    const int64_t id = id_ - first;
    const bool here = id >= 0 && id < size;
    const float at_id = here ? exps[id] * multiplier - everywhere - factor_ * (1.0f - smoothing_) : 0.0f;
    const bool streamed = streamed_ && !here;
    each_vector(size, [&](int64_t i, auto part) {
      const Vec gradient = load(exps + i, part) * multiplier - everywhere;
      if (streamed) {
        stream(dx + i, gradient, part);
      } else {
        store(dx + i, gradient, part);
      }
    });
    if (here) store(dx + id, broadcast(at_id), FirstLanes{1});
  }

  int64_t vocabulary_;
  float smoothing_, factor_;
  bool streamed_;

  // The row taken last. dx_ is null where its gradient is not wanted, or before the first row.
  T* dx_ = nullptr;
  int32_t id_ = -1;
  const float* exps_ = nullptr;
  const Block* blocks_ = nullptr;
  float multiplier_ = 0.0f;
};

// Rows of one task. A task of many rows is faster, because only the last gradient is written alone.
static int64_t rows_of_task(int64_t rows, int64_t vocabulary) {
  return max_of(min_of(8, divide_up(rows, num_threads())), row_grain(vocabulary));
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
