// Counter-based random bits: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3"). Integers only, so the CPU and CUDA draw the same bits.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define DRAGOMAN_DEVICE __host__ __device__
#else
#define DRAGOMAN_DEVICE
#endif

namespace dragoman {

// The dropout mask of one op call. Element `index` is kept when its 16-bit draw is >= threshold and scaled by
// `scale`.
//   key     = seed
//   counter = (index / 8, id, step low, step high)
// A block of 128 bits holds eight draws; the low half of word 0 is the first.
struct Dropout {
  uint32_t threshold = 0;  // round(p * 65536); 0 keeps everything and draws nothing
  float scale = 1.0f;      // 65536 / (65536 - threshold)
  uint64_t seed = 0;
  uint64_t step = 0;
  uint32_t id = 0;
  // (1,) or null: where a kernel reads the step instead, so that a recorded call draws new bits when the step
  // has moved on. The memory outlives every Dropout: dragoman.random holds it as long as the process runs.
  const int64_t* step_at = nullptr;

  bool operator==(const Dropout&) const = default;
};

// The mask with its step read from memory. A kernel calls it once, before it draws.
DRAGOMAN_DEVICE static inline Dropout at_its_step(const Dropout& dropout) {
  Dropout fixed = dropout;
  if (dropout.step_at != nullptr) fixed.step = static_cast<uint64_t>(*dropout.step_at);
  return fixed;
}

struct PhiloxBlock {
  uint32_t word[4];
};

DRAGOMAN_DEVICE static inline PhiloxBlock philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                                                 uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Draws of the eight logical indices 8 * block .. 8 * block + 7.
DRAGOMAN_DEVICE static inline PhiloxBlock dropout_block(const Dropout& dropout, uint32_t block) {
  return philox(dropout.seed, block, dropout.id, static_cast<uint32_t>(dropout.step),
                static_cast<uint32_t>(dropout.step >> 32));
}

DRAGOMAN_DEVICE static inline uint32_t draw_of(const PhiloxBlock& block, int lane) {
  return (block.word[lane >> 1] >> ((lane & 1) * 16)) & 0xFFFF;
}

// p in [0, 1); ValueError otherwise.
Dropout make_dropout(double p, uint64_t seed, uint64_t step, uint32_t id, const int64_t* step_at = nullptr);

}  // namespace dragoman
