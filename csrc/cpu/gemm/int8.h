// The product of float32 activations and an int8 weight with a scale for each of its rows.
#pragma once

#include <cstdint>

#include "cpu/gemm/gemm.h"
#include "ops/activation.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// y (m, n) = activation(a W^T + bias), where a row of a is x rounded to x_scale * q, |q| <= 127, and row j of
// W is scales[j] times int8. q + 128 is multiplied as uint8; 128 times the sum of W's row is taken off the
// sum, which is exact. So the integers are the same on every instruction set. A row with an infinity or a NaN
// gives a row of NaN. A row below 1e-30 counts as zeros.
struct Int8Gemm {
  int64_t m, n, k;
  const float* x;       // (m, k)
  const void* packed;   // W as pack_int8 wrote it
  const float* scales;  // (n,)
  const float* bias;    // (n,) or null
  float* y;             // (m, n)
  Activation activation;
};

void gemm_int8(const Int8Gemm& g);

// row (k,) = x (k,) rounded to 127 steps on either side of 0, and returns a step: NaN where x has an infinity
// or a NaN, 0 where it is below 1e-30.
float round_to_int8(const float* x, int64_t k, int8_t* row);

// packed (int8_packed_size bytes) = w (n, k) in the order in which gemm_int8 reads it on this instruction
// set. pack_int8 packs some rows, of which the first is at `w`.
int64_t int8_packed_size(int64_t n, int64_t k);
void pack_int8(int64_t n, int64_t k, const int8_t* w, const PackedRows& rows, void* packed);
// row (k,) = row j of w
void unpack_int8(int64_t k, const void* packed, int64_t j, int8_t* row);

}  // namespace dragoman::cpu::DRAGOMAN_ISA
