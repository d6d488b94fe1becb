#include "core/dispatch.h"

#include <cstdlib>

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
}  // namespace cpu

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
  if (has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
    variants.push_back({"avx512_bf16", &cpu::avx512_bf16::table});
  }
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

// What a Rehearsal runs instead: nothing.
template <class Params>
void rehearse(const Params&) {}

const Kernels rehearsal_table = {
#define DRAGOMAN_ENTRY(name, Params) .name = rehearse<Params>,
    DRAGOMAN_KERNELS(DRAGOMAN_ENTRY)
#undef DRAGOMAN_ENTRY
};

}  // namespace

const Kernels& kernels(Device device) {
  CHECK(device == Device::cpu, "device: this build has no CUDA backend; use device=\"cpu\"");
  if (Rehearsal::standing()) return rehearsal_table;
  return *variant().table;
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
