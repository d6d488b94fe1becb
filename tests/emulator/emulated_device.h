// The functions of csrc/cuda/device.h, whose comments hold here too.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "cuda_bf16.h"
#include "cuda_runtime.h"

#define DYNAMIC_SHARED(name) char* name = emulator::block->dynamic_shared

namespace dragoman::cuda {

using SharedAddress = char*;

inline SharedAddress shared_address(const void* p) { return static_cast<char*>(const_cast<void*>(p)); }

struct Words4 {
  uint32_t r[4];
};

inline void check_row(SharedAddress row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulator::fail("ldmatrix: a row is not 16-byte aligned");
}

inline Words4 ldmatrix(SharedAddress row) {
  check_row(row);
  const int lane = emulator::thread->lane;
  return emulator::exchange(~0u, row, [&](auto row_of) {
    Words4 m;
    for (int i = 0; i < 4; ++i) std::memcpy(&m.r[i], row_of(8 * i + lane / 4) + lane % 4 * 4, 4);
    return m;
  });
}

inline Words4 ldmatrix_transposed(SharedAddress row) {
  check_row(row);
  const int lane = emulator::thread->lane;
  return emulator::exchange(~0u, row, [&](auto row_of) {
    Words4 m;
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int k = 0; k < 2; ++k) std::memcpy(&pair[k], row_of(8 * i + lane % 4 * 2 + k) + lane / 4 * 2, 2);
      m.r[i] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
    return m;
  });
}

inline void mma_bf16(float (&c)[4], const Words4& a, uint32_t b0, uint32_t b1) {
  struct Fragments {
    Words4 a;
    uint32_t b[2];
  };
  const auto half = [](uint32_t word, int k) {
    return __bfloat162float({static_cast<uint16_t>(k % 2 == 0 ? word : word >> 16)});
  };
  const int lane = emulator::thread->lane;
  emulator::exchange(~0u, Fragments{a, {b0, b1}}, [&](auto of) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = 0.0f;
      for (int k = 0; k < 16; ++k) {
        const float x = half(of(row % 8 * 4 + k % 8 / 2).a.r[row / 8 + 2 * (k / 8)], k);
        sum += x * half(of(column * 4 + k % 8 / 2).b[k / 8], k);
      }
      c[i] += sum;
    }
    return 0;
  });
}

inline void finish(const emulator::Copy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, 16);
  } else {
    std::memcpy(copy.to, copy.from, 16);
  }
}

inline void copy_async(SharedAddress to, const void* from, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0)) {
    emulator::fail("copy_async: an address is not 16-byte aligned");
  }
  emulator::thread->open_copies.push_back({to, valid ? from : nullptr});
  if (emulator::eager_copies()) finish(emulator::thread->open_copies.back());
}

inline void commit_copies() {
  emulator::thread->copy_groups.push_back(std::move(emulator::thread->open_copies));
  emulator::thread->open_copies.clear();
}

template <int groups>
inline void wait_copies() {
  auto& pending = emulator::thread->copy_groups;
  while (pending.size() > groups) {
    if (!emulator::eager_copies()) {
      for (const emulator::Copy& copy : pending.front()) finish(copy);
    }
    pending.erase(pending.begin());
  }
}

// Denormal results are zero.
inline float exp2_fast(float x) {
  const float y = exp2f(x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;
}

}  // namespace dragoman::cuda
