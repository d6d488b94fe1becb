// What csrc/cuda/device.h and the warp functions do, compared with what they should do. One source for the
// emulator and for a GPU: nvcc -std=c++20 -arch=native -Icsrc tests/emulator/conformance.cu -o conformance &&
// ./conformance With the name of a fault as its argument, it makes a mistake that the emulator must report.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/vector.h"

namespace dragoman::cuda {

cudaStream_t stream() {
  static cudaStream_t made = [] {
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    return stream;
  }();
  return made;
}

namespace {

int failures = 0;

// Launches one block that writes to `count` words, and compares them with truth(i).
template <class Truth, class... Params, class... Arguments>
void expect(const char* name, int count, const Truth& truth, void (*kernel)(uint32_t*, Params...),
            int threads, size_t shared_bytes, Arguments... arguments) {
  std::vector<uint32_t> words(count);
  void* device = nullptr;
  const size_t size = words.size() * sizeof(uint32_t);
  check(cudaMalloc(&device, size), "allocate");
  launch(kernel, dim3(1), dim3(threads), shared_bytes, static_cast<uint32_t*>(device), arguments...);
  check(cudaMemcpyAsync(words.data(), device, size, cudaMemcpyDeviceToHost, stream()), "copy");
  check(cudaStreamSynchronize(stream()), name);
  check(cudaFree(device), "free");
  for (int i = 0; i < count; ++i) {
    if (words[i] == truth(i)) continue;
    std::printf("%s: word %d is %08x, should be %08x\n", name, i, words[i], static_cast<uint32_t>(truth(i)));
    ++failures;
    return;
  }
  std::printf("%s: as it should be\n", name);
}

__global__ void shuffles(uint32_t* out) {
  const uint32_t lane = threadIdx.x % warp_size;
  uint32_t* of_lane = out + threadIdx.x * 3;
  of_lane[0] = __shfl_xor_sync(~0u, threadIdx.x, 5);
  of_lane[1] = __shfl_sync(~0u, threadIdx.x, 7);
  of_lane[2] = static_cast<uint32_t>(warp_sum(static_cast<float>(lane)) + warp_max(static_cast<float>(lane)));
}

uint32_t shuffled(int i) {
  const uint32_t thread = i / 3, lane = thread % 32, warp = thread - lane;
  const uint32_t values[3] = {warp + (lane ^ 5), warp + 7, 496 + 31};
  return values[i % 3];
}

__global__ void block_sums(uint32_t* out) {
  __shared__ float partial[32];
  const float sum = block_sum(static_cast<float>(threadIdx.x), partial);
  out[threadIdx.x] = static_cast<uint32_t>(sum + block_max(-static_cast<float>(threadIdx.x), partial));
}

// A 16 x 16 matrix of 16-bit words 0 .. 255 in shared memory, read as four 8 x 8 matrices.
template <bool transposed>
__global__ void fragments(uint32_t* out) {
  __shared__ __align__(16) uint16_t matrix[16 * 16];
  for (int i = threadIdx.x; i < 256; i += 32) matrix[i] = static_cast<uint16_t>(i);
  __syncwarp();
  const int lane = threadIdx.x, row = lane % 16, column = lane / 16 * 8;
  const SharedAddress address = shared_address(matrix) + (row * 16 + column) * 2;
  const Words4 m = transposed ? ldmatrix_transposed(address) : ldmatrix(address);
  for (int i = 0; i < 4; ++i) out[lane * 4 + i] = m.r[i];
}

template <bool transposed>
uint32_t fragment(int i) {
  const int lane = i / 4, row0 = i % 2 * 8, column0 = i % 4 / 2 * 8;  // of matrix i % 4
  uint32_t words[2];
  for (int k = 0; k < 2; ++k) {
    const int major = lane / 4, minor = lane % 4 * 2 + k;
    words[k] = (row0 + (transposed ? minor : major)) * 16 + column0 + (transposed ? major : minor);
  }
  return words[0] | words[1] << 16;
}

__host__ __device__ inline int a_of(int row, int k) { return (row * 5 + k * 3) % 17 - 8; }
__host__ __device__ inline int b_of(int k, int column) { return (k * 7 + column * 11) % 13 - 6; }

// Whole numbers, whose sums are exact in any order.
__global__ void products(uint32_t* out) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4 * 2;
  const auto a = [](int row, int k) {
    return pack_bf16(static_cast<float>(a_of(row, k)), static_cast<float>(a_of(row, k + 1)));
  };
  const auto b = [](int k, int column) {
    return pack_bf16(static_cast<float>(b_of(k, column)), static_cast<float>(b_of(k + 1, column)));
  };
  float c[4] = {100.0f, 100.0f, 100.0f, 100.0f};
  mma_bf16(c, Words4{{a(g, t), a(g + 8, t), a(g, t + 8), a(g + 8, t + 8)}}, b(t, g), b(t + 8, g));
  for (int i = 0; i < 4; ++i)
    out[(g + i / 2 * 8) * 8 + t + i % 2] = static_cast<uint32_t>(static_cast<int>(c[i]));
}

uint32_t product(int i) {
  int sum = 100;
  for (int k = 0; k < 16; ++k) sum += a_of(i / 8, k) * b_of(k, i % 8);
  return static_cast<uint32_t>(sum);
}

// Two groups of copies; the first is waited for and read while the second is under way. Odd threads copy
// zeros.
__global__ void copies(uint32_t* out) {
  DYNAMIC_SHARED(memory);
  uint32_t* staged = reinterpret_cast<uint32_t*>(memory);
  uint32_t* source = out + 512;
  const int thread = threadIdx.x;
  for (int i = 0; i < 8; ++i) source[thread * 8 + i] = thread * 8 + i;
  __syncthreads();
  copy_async(shared_address(staged + thread * 4), source + thread * 4, thread % 2 == 0);
  commit_copies();
  copy_async(shared_address(staged + 256 + thread * 4), source + 256 + thread * 4, true);
  commit_copies();
  wait_copies<1>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[thread * 4 + i] = staged[(thread * 4 + i + 4) % 256];
  wait_copies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[256 + thread * 4 + i] = staged[256 + (thread * 4 + i + 4) % 256];
}

uint32_t copied(int i) {
  if (i >= 512) return i - 512;
  const int from = (i + 4) % 256;
  return i >= 256 ? 256 + from : from / 4 % 2 == 0 ? from : 0;
}

__host__ __device__ inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

__global__ void values_of_8(uint32_t* out) {
  float x[8], y[8];
  bf16* rounded = reinterpret_cast<bf16*>(out + 16);
  for (int i = 0; i < 8; ++i) x[i] = 1.0f + static_cast<float>(i) / 300.0f;
  store8(rounded, 8, x);
  load8(rounded, 5, y);
  for (int i = 0; i < 8; ++i) out[i] = bits_of(y[i]);
  for (int i = 0; i < 8; ++i) out[8 + i] = bits_of(to_float(from_float<bf16>(x[i])));
}

uint32_t rounded_bits(int i) {
  const uint32_t bits = bits_of(1.0f + static_cast<float>(i) / 300.0f);
  return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

uint32_t value_of_8(int i) {
  if (i >= 16) return rounded_bits(2 * i - 32) | rounded_bits(2 * i - 31) << 16;
  return i < 5 || i >= 8 ? rounded_bits(i % 8) << 16 : 0;
}

#ifdef DRAGOMAN_EMULATOR
__global__ void divergent_barrier(uint32_t*) {
  if (threadIdx.x < 40) __syncthreads();
}
__global__ void divergent_shuffle(uint32_t* out) {
  if (threadIdx.x < 16) out[0] = __shfl_xor_sync(~0u, 1u, 1);
}
__global__ void half_mask(uint32_t* out) { out[0] = __shfl_xor_sync(0xFFFFu, 1u, 1); }
__global__ void missing_barrier(uint32_t* out) {
  __shared__ uint32_t values[64];
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[63 - threadIdx.x];  // of the other warp, which has not run yet
}
__global__ void forgotten_copy(uint32_t* out) {
  DYNAMIC_SHARED(memory);
  copy_async(shared_address(memory), out, true);
}
__global__ void misaligned_copy(uint32_t* out) {
  DYNAMIC_SHARED(memory);
  copy_async(shared_address(memory), out + 1, true);
}

void make_fault(const std::string& name) {
  const auto none = [](int) { return 0u; };
  if (name == "divergent_barrier") expect("fault", 64, none, divergent_barrier, 64, 0);
  if (name == "divergent_shuffle") expect("fault", 64, none, divergent_shuffle, 64, 0);
  if (name == "half_mask") expect("fault", 64, none, half_mask, 64, 0);
  if (name == "missing_barrier") expect("fault", 64, [](int) { return 1u; }, missing_barrier, 64, 0);
  if (name == "forgotten_copy") expect("fault", 64, none, forgotten_copy, 32, 64);
  if (name == "misaligned_copy") expect("fault", 64, none, misaligned_copy, 32, 64);
  if (name == "large_block") expect("fault", 64, none, half_mask, 1056, 0);
  if (name == "shared_memory") expect("fault", 64, none, half_mask, 32, size_t{228} << 10);
}
#endif

void compare() {
  expect("shuffles", 64 * 3, shuffled, shuffles, 64, 0);
  expect("block sums", 96, [](int) { return 96u * 95 / 2; }, block_sums, 96, 0);
  expect("ldmatrix", 128, fragment<false>, fragments<false>, 32, 0);
  expect("ldmatrix, transposed", 128, fragment<true>, fragments<true>, 32, 0);
  expect("mma", 128, product, products, 32, 0);
  expect("copies", 1024, copied, copies, 64, size_t{50} << 10);
  expect("eight values", 20, value_of_8, values_of_8, 1, 0);
}

}  // namespace

}  // namespace dragoman::cuda

int main(int count, char** arguments) {
  try {
#ifdef DRAGOMAN_EMULATOR
    if (count > 1) {
      dragoman::cuda::make_fault(arguments[1]);
      return dragoman::cuda::failures > 0;
    }
#endif
    dragoman::cuda::compare();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  return dragoman::cuda::failures > 0;
}
