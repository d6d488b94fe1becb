// Eight elements at a time, float32 in registers; sums over a warp and over a block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace dragoman::cuda {

using bf16 = __nv_bfloat16;

constexpr int warp_size = 32;

// Calls body(T{}) with the type of the activations: float or bf16.
template <class Body>
void with_dtype(DType dtype, const Body& body) {
  if (dtype == DType::bfloat16) {
    body(bf16{});
  } else {
    body(float{});
  }
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(bf16 x) {
  return __bfloat162float(x);
}

template <class T>
__device__ inline T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// Two bfloat16 values in a word, the first in its low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) |
         static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}
__device__ inline float low_bf16(uint32_t word) {
  return __uint_as_float(word << 16);
}
__device__ inline float high_bf16(uint32_t word) {
  return __uint_as_float(word & 0xFFFF0000u);
}

// p is 16-byte aligned.
__device__ inline void load8(const float* p, float (&x)[8]) {
  const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
  x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
  x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
__device__ inline void load8(const bf16* p, float (&x)[8]) {
  const uint4 words = *reinterpret_cast<const uint4*>(p);
  x[0] = low_bf16(words.x), x[1] = high_bf16(words.x), x[2] = low_bf16(words.y), x[3] = high_bf16(words.y);
  x[4] = low_bf16(words.z), x[5] = high_bf16(words.z), x[6] = low_bf16(words.w), x[7] = high_bf16(words.w);
}
__device__ inline void store8(float* p, const float (&x)[8]) {
  *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]);
  *reinterpret_cast<float4*>(p + 4) = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ inline void store8(bf16* p, const float (&x)[8]) {
  *reinterpret_cast<uint4*>(p) =
      make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
}

__device__ inline bool aligned16(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// The first `count` of eight elements, at any address; zeros beyond them.
template <class T>
__device__ inline void load8(const T* p, int64_t count, float (&x)[8]) {
  if (count >= 8 && aligned16(p)) return load8(p, x);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = i < count ? to_float(p[i]) : 0.0f;
}
template <class T>
__device__ inline void store8(T* p, int64_t count, const float (&x)[8]) {
  if (count >= 8 && aligned16(p)) return store8(p, x);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < count) p[i] = from_float<T>(x[i]);
  }
}

// Every lane gets the result. All lanes of the warp take part.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
  }
  return x;
}

// Every thread of a block of whole warps, one-dimensional, gets over_warp of all, in a fixed order. `partial`
// is shared memory of one float for each warp, at least 32; it may be used again when this returns.
template <class OverWarp>
__device__ inline float over_block(float x, float neutral, float* partial, const OverWarp& over_warp) {
  const unsigned lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  x = over_warp(x);
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = over_warp(lane < blockDim.x / warp_size ? partial[lane] : neutral);
  __syncthreads();
  return x;
}

__device__ inline float block_sum(float x, float* partial) {
  return over_block(x, 0.0f, partial, [](float y) { return warp_sum(y); });
}
__device__ inline float block_max(float x, float* partial) {
  return over_block(x, -INFINITY, partial, [](float y) { return warp_max(y); });
}

}  // namespace dragoman::cuda
