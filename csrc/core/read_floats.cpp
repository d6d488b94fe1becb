#include "core/read_floats.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>

#include "core/parallel.h"

namespace dragoman {

namespace {

// As read_floats.
int read_bytes(int descriptor, int64_t place, void* to, int64_t nbytes) {
  for (int64_t done = 0; done < nbytes;) {
    const ssize_t count = pread(descriptor, static_cast<char*>(to) + done, static_cast<size_t>(nbytes - done),
                                static_cast<off_t>(place + done));
    if (count == 0) return -1;
    if (count < 0 && errno != EINTR) return errno;
    done += std::max<ssize_t>(count, 0);
  }
  return 0;
}

// Bits of a float16 as those of a float32; a NaN keeps its payload. It has no branch, not even around the
// product, so that a loop over it becomes vectors.
uint32_t widen_half(uint16_t half) {
  const int32_t rest = half & 0x7FFF;
  const uint32_t exponent = uint32_t{rest < 0x7C00 ? 112u : 224u} << 23;  // added; that of infinity is 255
  const uint32_t normal = (static_cast<uint32_t>(rest) << 13) + exponent;
  const auto denormal = std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-24f);
  const uint32_t is_denormal = rest < 0x400 ? ~0u : 0u;
  return (denormal & is_denormal) | (normal & ~is_denormal) | static_cast<uint32_t>(half & 0x8000) << 16;
}

// Reads `size` values by way of a buffer that stays in the cache.
template <class Stored, class Widen>
int read_widened(int descriptor, int64_t place, uint32_t* to, int64_t size, const Widen& widen) {
  constexpr int64_t part = 1 << 13;
  Stored buffer[part];
  for (int64_t begin = 0; begin < size; begin += part) {
    const int64_t count = std::min(part, size - begin);
    constexpr int64_t item = sizeof(Stored);
    if (const int failed = read_bytes(descriptor, place + begin * item, buffer, count * item)) return failed;
    for (int64_t i = 0; i < count; ++i) to[begin + i] = widen(buffer[i]);
  }
  return 0;
}

using Read = int (*)(int descriptor, int64_t place, uint32_t* to, int64_t size);

struct Format {
  const char* name;
  int64_t item;  // bytes of a value
  Read read;
};

constexpr Format formats[] = {
    {"float64", 8,
     [](int descriptor, int64_t place, uint32_t* to, int64_t size) {
       return read_widened<double>(descriptor, place, to, size, [](double value) {
         return std::bit_cast<uint32_t>(static_cast<float>(value));
       });
     }},
    {"float32", 4,
     [](int descriptor, int64_t place, uint32_t* to, int64_t size) {
       return read_bytes(descriptor, place, to, 4 * size);
     }},
    {"float16", 2,
     [](int descriptor, int64_t place, uint32_t* to, int64_t size) {
       return read_widened<uint16_t>(descriptor, place, to, size, widen_half);
     }},
    {"bfloat16", 2,
     [](int descriptor, int64_t place, uint32_t* to, int64_t size) {
       return read_widened<uint16_t>(descriptor, place, to, size,
                                     [](uint16_t value) { return uint32_t{value} << 16; });
     }},
};

const Format& format_of(const std::string& dtype) {
  for (const Format& format : formats) {
    if (dtype == format.name) return format;
  }
  throw ValueError(concat("read_floats: dtype must be float64, float32, float16 or bfloat16, got ", dtype));
}

}  // namespace

int read_floats(int descriptor, int64_t place, const std::string& dtype, const Tensor& out) {
  const Format& format = format_of(dtype);
  check_output("read_floats", "out", out, out.shape());
  CHECK(out.device() == cpu_device, "read_floats: out must be on cpu, got ", name(out.device()));
  if (Rehearsal::standing()) return 0;
  constexpr int64_t huge_page = (int64_t{2} << 20) / sizeof(float);  // of fresh memory, for one thread
  const int64_t grain = std::clamp(out.numel() / num_threads(), huge_page / 8, huge_page);
  std::atomic<int> failed{0};
  parallel_for(out.numel(), grain, [&](int64_t begin, int64_t end) {
    if (failed != 0) return;
    const int error =
        format.read(descriptor, place + begin * format.item, out.data<uint32_t>() + begin, end - begin);
    if (error != 0) failed = error;
  });
  out.storage()->written();
  return failed;
}

}  // namespace dragoman
