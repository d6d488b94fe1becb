// Rows of logits: their losses and gradients.
#pragma once

#include "cpu/gemm/units.h"
#include "cpu/isa/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// A row of logits x is taken in blocks.
constexpr int64_t block_size = 512;
struct Block {
  float most;   // the largest x
  float sum;    // of exp(x - most)
  float total;  // of x - most
  float share;  // exp(most - the row's most)
};

// Of a row x of logits: softmax(x) = exp(x - most) / sum, and the loss, 0 without a target.
struct RowStatistics {
  float most, sum, loss;
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
  return {most, sum, sum_lanes(total), 0.0f};
}

// Takes the rows of a batch one after the other. While a row's exponentials are made, which keeps the
// processor busy, the gradient of the row before is written, which keeps the memory busy.
template <class T>
class LossRows {
 public:
  // streamed: gradients go past the caches.
  LossRows(int64_t vocabulary, float smoothing, float factor, bool streamed)
      : vocabulary_(vocabulary), smoothing_(smoothing), factor_(factor), streamed_(streamed) {}

  // Where dx is given, it becomes factor * (softmax(x) - target distribution), or 0 without a target, by the
  // end of the next call or of finish(). Until then exps (vocabulary,) and blocks stay as they are made here.
  // dx may be x.
  RowStatistics take(const T* x, int32_t id, float* exps, Block* blocks, T* dx) {
    const float target = id < 0 ? 0.0f : load(x + id, FirstLanes{1})[0];
    float most = -infinity;
    each_block([&](int64_t first, int64_t size) {
      Block& block = blocks[first / block_size];
      block = take_block(x + first, size, vocabulary_, dx == nullptr ? nullptr : exps + first);
      if (block.most > most) most = block.most;
      write_gradient(first, size);
    });
    double sum = 0.0, total = 0.0;  // of exp(x - most), of x - most
    each_block([&](int64_t first, int64_t size) {
      Block& block = blocks[first / block_size];
      const float below = block.most - most;
      block.share = vexp2(broadcast(below * log2_e))[0];
      sum += static_cast<double>(block.sum) * block.share;
      total += block.total + static_cast<double>(below) * static_cast<double>(size);
    });
    dx_ = dx;
    id_ = id;
    exps_ = exps;
    blocks_ = blocks;
    multiplier_ = factor_ / static_cast<float>(sum);
    return {most, static_cast<float>(sum),
            id < 0 ? 0.0f : loss_of(static_cast<double>(target) - most, sum, total)};
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

  // `below` is x[id] - most.
  float loss_of(double below, double sum, double total) const {
    double loss = __builtin_log(sum) - (1.0 - smoothing_) * below;
    if (smoothing_ > 0.0f) loss -= smoothing_ * total / static_cast<double>(vocabulary_);
    return static_cast<float>(loss);
  }

  // One block of the row taken last.
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

  // The row taken last: dx_ is null where its gradient is not wanted, or there is none.
  T* dx_ = nullptr;
  int32_t id_ = -1;
  const float* exps_ = nullptr;
  const Block* blocks_ = nullptr;
  float multiplier_ = 0.0f;
};

// Of a task: many where there are many, as only the last one's gradient is written alone.
static int64_t rows_of_task(int64_t rows, int64_t vocabulary) {
  return max_of(min_of(8, divide_up(rows, num_threads())), row_grain(vocabulary));
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
