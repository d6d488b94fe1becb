#include "core/dispatch.h"

#include <cstdlib>

namespace dragoman {

namespace cpu {
namespace baseline {
extern const Kernels table;
}
#ifdef DRAGOMAN_HAS_avx512
namespace avx512 {
extern const Kernels table;
}
#endif
}  // namespace cpu

namespace {

struct Variant {
  std::string name;
  const Kernels* table;
};

std::vector<Variant> runnable_variants() {
  std::vector<Variant> variants{{"baseline", &cpu::baseline::table}};
#ifdef DRAGOMAN_HAS_avx512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    variants.push_back({"avx512", &cpu::avx512::table});
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

}  // namespace

const Kernels& kernels(Device device) {
  CHECK(device == Device::cpu, "device: this build has no CUDA backend; use device=\"cpu\"");
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
