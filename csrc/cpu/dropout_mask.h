// The factors of dropout, many at a time, from the random bits of core/random.h: one bit or one float32
// factor for each element.
#pragma once

#include "core/random.h"
#include "cpu/isa/simd.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

#ifdef __AVX512F__

static inline __m512i xor3(__m512i a, __m512i b, __m512i c) {
  return _mm512_xor_si512(_mm512_xor_si512(a, b), c);
}

// Bit i says whether element 8 * block + i is kept. Computes eight blocks side by side: a word of each is in
// the low half of a 64-bit lane. Multiplications write to the high half too, which is never read.
static inline uint64_t dropout_bits(const Dropout& dropout, uint32_t block) {
  // With this order of blocks, the words that are unpacked below follow the order of the elements.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i multiplier0 = _mm512_set1_epi64(0xD2511F53), multiplier1 = _mm512_set1_epi64(0xCD9E8D57);
  uint32_t k0 = static_cast<uint32_t>(dropout.seed), k1 = static_cast<uint32_t>(dropout.seed >> 32);
  __m512i c0 = _mm512_add_epi64(_mm512_set1_epi64(block), order);
  __m512i c1 = _mm512_set1_epi64(dropout.id);
  __m512i c2 = _mm512_set1_epi64(static_cast<uint32_t>(dropout.step));
  __m512i c3 = _mm512_set1_epi64(static_cast<uint32_t>(dropout.step >> 32));
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const __m512i product0 = _mm512_maskz_mul_epu32(0xFF, c0, multiplier0);
    const __m512i product1 = _mm512_maskz_mul_epu32(0xFF, c2, multiplier1);
    c0 = xor3(_mm512_maskz_srli_epi64(0xFF, product1, 32), c1, _mm512_set1_epi64(k0));
    c1 = product1;
    c2 = xor3(_mm512_maskz_srli_epi64(0xFF, product0, 32), c3, _mm512_set1_epi64(k1));
    c3 = product0;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  const __m512i words01 = _mm512_mask_shuffle_epi32(c0, 0xAAAA, c1, _MM_PERM_CCAA);
  const __m512i words23 = _mm512_mask_shuffle_epi32(c2, 0xAAAA, c3, _MM_PERM_CCAA);
  const __m512i threshold = _mm512_set1_epi16(static_cast<int16_t>(dropout.threshold));
  const uint64_t low =
      _mm512_cmpge_epu16_mask(_mm512_maskz_unpacklo_epi64(0xFF, words01, words23), threshold);
  const uint64_t high =
      _mm512_cmpge_epu16_mask(_mm512_maskz_unpackhi_epi64(0xFF, words01, words23), threshold);
  return low | high << 32;
}

// Lane i: `scale` where bit i is set, else 0.
static inline Vec factors_of(uint64_t bits, float scale) {
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), broadcast(scale));
}

#else

static inline uint64_t dropout_bits(const Dropout& dropout, uint32_t block) {
  uint64_t bits = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const PhiloxBlock words = dropout_block(dropout, block + i);
    for (int lane = 0; lane < 8; ++lane) {
      bits |= uint64_t{draw_of(words, lane) >= dropout.threshold} << (i * 8 + lane);
    }
  }
  return bits;
}

static inline Vec factors_of(uint64_t bits, float scale) {
  IntVec bit;
  for (int64_t i = 0; i < lanes; ++i) bit[i] = 1 << i;
  return ((static_cast<int32_t>(bits) - IntVec{}) & bit) != 0 ? broadcast(scale) : Vec{};
}

#endif

// Calls body(index, factors, AllLanes or FirstLanes) for vectors that cover the logical indices [begin, end)
// in order. With threshold 0 no bits are drawn, and every factor is `scale`.
template <class Body>
static inline __attribute__((always_inline)) void each_masked_vector(const Dropout& dropout, int64_t begin,
                                                                     int64_t end, const Body& body) {
  if (dropout.threshold == 0) {
    return each_vector(end - begin,
                       [&](int64_t i, auto part) { body(begin + i, broadcast(dropout.scale), part); });
  }
  const Dropout fixed = at_its_step(dropout);
  while (begin < end) {
    const int64_t skip = begin % 8;
    const int64_t size = min_of(64 - skip, end - begin);
    const uint64_t bits = dropout_bits(fixed, static_cast<uint32_t>(begin / 8)) >> skip;
    each_vector(size,
                [&](int64_t i, auto part) { body(begin + i, factors_of(bits >> i, fixed.scale), part); });
    begin += size;
  }
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
