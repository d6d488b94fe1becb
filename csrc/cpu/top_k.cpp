#include "ops/top_k.h"

#include "core/parallel.h"
#include "core/storage.h"
#include "cpu/isa/simd.h"
#include "cpu/kernels.h"
#include "cpu/loss_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// The largest values so far, the largest first. Values come in the order of their columns.
struct Largest {
  int32_t* ids;   // (k,)
  float* values;  // (k,)
  int64_t k;
  int64_t count = 0;

  bool wants(float value) const { return count < k || value > values[k - 1]; }

  void insert(int32_t id, float value) {
    int64_t place = count < k ? count++ : k - 1;
    for (; place > 0 && values[place - 1] < value; --place) {
      values[place] = values[place - 1];
      ids[place] = ids[place - 1];
    }
    values[place] = value;
    ids[place] = id;
  }
};

// A value that at least k elements of the row reach: the k-th largest of the blocks' maxima. `largest` (k,)
// is scratch. -infinity where there are fewer blocks.
static float bound_of(const Block* blocks, int64_t num_blocks, Largest largest) {
  if (num_blocks < largest.k) return -infinity;
  for (int64_t i = 0; i < num_blocks; ++i) {
    if (largest.wants(blocks[i].maximum)) largest.insert(0, blocks[i].maximum);
  }
  const float bound = largest.values[largest.k - 1];
  return bound > -3.4e38f ? bound : -infinity;  // take_block never gives -infinity
}

// blocks: the maxima of x (vocabulary,), block by block.
static void take_largest(const float* x, int64_t vocabulary, const Block* blocks, Largest largest) {
  constexpr int64_t part_size = 64;
  const float bound = bound_of(blocks, divide_up(vocabulary, block_size), largest);
  for (int64_t block = 0; block < vocabulary; block += block_size) {
    const float maximum = blocks[block / block_size].maximum;
    if (!(maximum >= bound && largest.wants(maximum))) continue;
    const int64_t end = min_of(block + block_size, vocabulary);
    for (int64_t first = block; first < end; first += part_size) {
      const int64_t size = min_of(part_size, end - first);
      const float most = largest_of(size, [&](int64_t i, auto part) { return load(x + first + i, part); });
      if (!(most >= bound && largest.wants(most))) continue;
      for (int64_t i = first; i < first + size; ++i) {
        if (x[i] >= bound && largest.wants(x[i])) largest.insert(static_cast<int32_t>(i), x[i]);
      }
    }
  }
}

// Pass 1: maxima and sums of blocks. Pass 2: the largest, in the few blocks that hold them.
void top_k(const TopK& p) {
  const int64_t num_blocks = divide_up(p.vocabulary, block_size);
  const Scratch scratch(max_threads() * num_blocks * static_cast<int64_t>(sizeof(Block)));
  parallel_for(p.rows, rows_of_task(p.rows, p.vocabulary), [&](int64_t begin, int64_t end) {
    Block* blocks = static_cast<Block*>(scratch.data) + thread_index() * num_blocks;
    LossRows<float> statistics(p.vocabulary, 0.0f, 0.0f, false);
    for (int64_t row = begin; row < end; ++row) {
      const float* x_row = p.logits + row * p.vocabulary;
      const RowStatistics found = statistics.take(x_row, -1, nullptr, blocks, static_cast<float*>(nullptr));
      p.softmax[2 * row] = found.maximum;
      p.softmax[2 * row + 1] = found.sum;
      int32_t* ids_row = p.ids + row * p.k;
      float* values_row = p.values + row * p.k;
      if (found.sum == found.sum) {
        take_largest(x_row, p.vocabulary, blocks, {.ids = ids_row, .values = values_row, .k = p.k});
      } else {
        zero(ids_row, p.k);
        zero(values_row, p.k);
      }
    }
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
