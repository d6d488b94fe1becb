// What CUDA C++ has no words for: matrix fragments, asynchronous copies, shared memory by address. All PTX of
// the backend is here. The emulator brings functions of the same names (tests/emulator/emulated_device.h).
#pragma once

#ifdef DRAGOMAN_EMULATOR
#include <emulated_device.h>
#else

#include <cuda_runtime.h>

#include <cstdint>

// The dynamic shared memory of a kernel, as char*; 16-byte aligned.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) char name[]

namespace dragoman::cuda {

using SharedAddress = uint32_t;  // counts bytes

__device__ __forceinline__ SharedAddress shared_address(const void* p) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}

struct Words4 {
  uint32_t r[4];
};

// Four 8 x 8 matrices of 16-bit elements. Lanes 8 i .. 8 i + 7 give the addresses of the rows of matrix i (16
// bytes each, 16-byte aligned). Lane l gets in r[i] the elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
#define DRAGOMAN_LDMATRIX(name, kind)                                                       \
  __device__ __forceinline__ Words4 name(SharedAddress row) {                               \
    Words4 m;                                                                               \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" kind ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(m.r[0]), "=r"(m.r[1]), "=r"(m.r[2]), "=r"(m.r[3])                   \
                 : "r"(row)                                                                 \
                 : "memory");                                                               \
    return m;                                                                               \
  }
DRAGOMAN_LDMATRIX(ldmatrix, "")
// The same of the transposed matrices: lane l gets rows 2 (l % 4) and 2 (l % 4) + 1 of column l / 4.
DRAGOMAN_LDMATRIX(ldmatrix_transposed, ".trans")
#undef DRAGOMAN_LDMATRIX

// c (16 x 8) += a (16 x 16) b (16 x 8). With g = lane / 4 and t = lane % 4: c[0], c[1] are row g, columns 2t
// and 2t + 1; c[2], c[3] row g + 8. a.r[0] is row g, columns 2t and 2t + 1; a.r[1] row g + 8; a.r[2], a.r[3]
// the same with columns + 8. b0 is column g, rows 2t and 2t + 1; b1 rows + 8.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const Words4& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
}

// Starts a copy of 16 bytes into shared memory, or of zeros unless `valid`; `from` is read only if valid.
__device__ __forceinline__ void copy_async(SharedAddress to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(valid ? 16 : 0)
               : "memory");
}

// Ends a group of copies of this thread.
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `groups` of this thread's groups are under way. Other threads see them after a barrier.
template <int groups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// 2 to the power of x, to about 2 units in the last place; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace dragoman::cuda

#endif
