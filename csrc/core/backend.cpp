#include "core/backend.h"

#include <cstdlib>

#include "core/backend_api.h"
#include "core/cuda_library.h"
#include "test/test_device.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dragoman {

namespace cpu {
namespace baseline {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
namespace avx512_bf16 {
extern const Kernels table;
}
namespace avx512_amx {
extern const Kernels table;
}
}  // namespace cpu

extern const Memory host_memory;

namespace {

struct Variant {
  std::string name;
  const Kernels* table;
};

[[maybe_unused]] bool has_avx512() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

[[maybe_unused]] bool has_avx512_bf16() {
#ifdef __x86_64__
  return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// The tile registers are large: Linux lets a process use them once it has asked.
[[maybe_unused]] bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25;
  constexpr unsigned wanted = amx_bf16 | amx_tile | amx_int8;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & wanted) == wanted &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

// The slowest first.
std::vector<Variant> runnable_variants() {
  std::vector<Variant> variants{{"baseline", &cpu::baseline::table}};
#ifdef DRAGOMAN_HAS_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    variants.push_back({"avx2", &cpu::avx2::table});
  }
#endif
#ifdef DRAGOMAN_HAS_avx512
  if (has_avx512()) variants.push_back({"avx512", &cpu::avx512::table});
#endif
#ifdef DRAGOMAN_HAS_avx512_bf16
  if (has_avx512_bf16()) variants.push_back({"avx512_bf16", &cpu::avx512_bf16::table});
#endif
#ifdef DRAGOMAN_HAS_avx512_amx
  if (has_avx512_bf16() && has_amx()) variants.push_back({"avx512_amx", &cpu::avx512_amx::table});
#endif
  return variants;
}

Variant choose_variant() {
  const std::vector<Variant> variants = runnable_variants();
  const char* wanted = std::getenv("DRAGOMAN_ISA");
  if (wanted == nullptr || *wanted == '\0') return variants.back();
  std::string names;
  for (const Variant& variant : variants) {
    if (variant.name == wanted) return variant;
    names += (names.empty() ? "" : ", ") + variant.name;
  }
  throw ValueError(concat("DRAGOMAN_ISA must be one of ", names, " on this machine, got ", wanted));
}

const Variant& variant() {
  static const Variant chosen = choose_variant();
  return chosen;
}

// What a Rehearsal runs in place of a device's kernels: nothing. Sizes are the device's.
template <class Params>
void rehearse(const Params&) {}

Kernels rehearsal_of(const Kernels& device) {
  return {
#define DRAGOMAN_ENTRY(name, Params) .name = rehearse<Params>,
      DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
          .packed_weight_size = device.packed_weight_size,
      .loss_chunk = device.loss_chunk,
  };
}

}  // namespace

const Memory& memory(Device device) {
  static constexpr const Memory* tables[] = {&host_memory, &cuda_memory, &test::memory};  // by Device::Kind
  if (device.kind == Device::Kind::cuda) check_cuda(device);
  return *tables[static_cast<size_t>(device.kind)];
}

const Kernels& kernels(Device device) {
  static const Kernels* const tables[] = {variant().table, &cuda_kernels, &test::kernels};  // by Device::Kind
  static const Kernels rehearsals[] = {rehearsal_of(*tables[0]), rehearsal_of(*tables[1]),
                                       rehearsal_of(*tables[2])};
  if (device.kind == Device::Kind::cuda) check_cuda(device);
  const auto kind = static_cast<size_t>(device.kind);
  return Rehearsal::standing() ? rehearsals[kind] : *tables[kind];
}

void check_status(const BackendApi& api, const char* call, Status status) {
  if (status == Status::done) return;
  const std::string text = concat(call, ": ", api.last_message());
  if (status == Status::out_of_memory) throw OutOfMemory(text.c_str());
  throw std::runtime_error(text);
}

const std::string& cpu_isa() {
  return variant().name;
}

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const Variant& variant : runnable_variants()) names.push_back(variant.name);
  return names;
}

}  // namespace dragoman
