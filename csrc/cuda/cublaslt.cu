#include "cuda/cublaslt.h"

#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "core/check.h"
#include "cuda/cublaslt_abi.h"
#include "cuda/kernels.h"
#include "ops/elementwise.h"

#ifdef DRAGOMAN_EMULATOR
#define DRAGOMAN_DECLARE(name, parameters) extern "C" dragoman::cuda::lt::Status name parameters;
namespace lt = dragoman::cuda::lt;
DRAGOMAN_CUBLASLT(DRAGOMAN_DECLARE)  // tests/emulator/lt.cpp
#undef DRAGOMAN_DECLARE
#else
#include "cuda/open_library.h"
#endif

namespace dragoman::cuda {

namespace {

struct Product {
  int64_t m, n, k;
  DType dtype;
  Factor a, b;
  Result c;
  const void* bias;  // of C's dtype: cuBLASLt adds it before the sum is rounded
  bool relu;
};

struct Library {
#define DRAGOMAN_MEMBER(name, parameters) lt::Status(*name) parameters = nullptr;
  DRAGOMAN_CUBLASLT(DRAGOMAN_MEMBER)
#undef DRAGOMAN_MEMBER
  std::string problem;
};

Library open() {
  Library library;
#ifdef DRAGOMAN_EMULATOR
#define DRAGOMAN_FIND(name, parameters) library.name = &::name;
#else
  void* file = open_library("libcublasLt.so.13", "cu13", library.problem);
  if (file == nullptr) {
    library.problem =
        concat("cuBLASLt was not found; install it by: pip install 'dragoman[cuda]' (", library.problem, ")");
    return library;
  }
  library.problem.clear();
#define DRAGOMAN_FIND(name, parameters)                                          \
  library.name = reinterpret_cast<lt::Status(*) parameters>(dlsym(file, #name)); \
  if (library.name == nullptr) library.problem = concat("cuBLASLt has no function ", #name);
#endif
  DRAGOMAN_CUBLASLT(DRAGOMAN_FIND)
#undef DRAGOMAN_FIND
  return library;
}

const Library& opened() {
  static const Library library = open();
  return library;
}

const Library& library() {
  if (!opened().problem.empty()) throw std::runtime_error(opened().problem);
  return opened();
}

void check_lt(lt::Status status, const char* call) {
  if (status != lt::success) throw std::runtime_error(concat(call, " failed with status ", status));
}

lt::Context* context() {
  static lt::Context* made = [] {
    lt::Context* fresh = nullptr;
    check_lt(library().cublasLtCreate(&fresh), "cublasLtCreate");
    return fresh;
  }();
  return made;
}

// A descriptor of cuBLASLt, destroyed at the end of the scope.
template <class T, auto destroy>
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (made_ != nullptr) (library().*destroy)(made_);
  }
  T** to_make() { return &made_; }
  operator T*() const { return made_; }

 private:
  T* made_ = nullptr;
};

using OwnedOperation = Descriptor<lt::Operation, &Library::cublasLtMatmulDescDestroy>;
using OwnedLayout = Descriptor<lt::Layout, &Library::cublasLtMatrixLayoutDestroy>;
using OwnedPreference = Descriptor<lt::Preference, &Library::cublasLtMatmulPreferenceDestroy>;

lt::DataType data_type(DType dtype) {
  return dtype == DType::bfloat16 ? lt::bfloat16 : lt::float32;
}

// cuBLASLt stores matrices by columns, so for it a matrix stored by rows is its transpose. It computes
// C^T (n, m) = op(B)^T op(A)^T: its first factor is B, its second is A, and its bias has one number for each
// row of C^T.
class Descriptors {
 public:
  explicit Descriptors(const Product& p) {
    check_lt(library().cublasLtMatmulDescCreate(operation.to_make(), lt::compute_float32, lt::float32),
             "cublasLtMatmulDescCreate");
    set(lt::transpose_a, p.b.transposed ? lt::transpose : lt::keep);
    set(lt::transpose_b, p.a.transposed ? lt::transpose : lt::keep);
    set(lt::epilogue,
        p.bias != nullptr ? (p.relu ? lt::relu_bias : lt::bias) : (p.relu ? lt::relu : lt::plain));
    if (p.bias != nullptr) set(lt::bias_pointer, p.bias);
    make(first, p.dtype, p.b.transposed ? p.k : p.n, p.b.transposed ? p.n : p.k, p.b.ld);
    make(second, p.dtype, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m, p.a.ld);
    make(result, p.c.dtype, p.n, p.m, p.c.ld);
  }

  OwnedOperation operation;
  OwnedLayout first, second, result;

 private:
  template <class T>
  void set(lt::OperationAttribute attribute, T value) {
    check_lt(library().cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
             "cublasLtMatmulDescSetAttribute");
  }

  // Rounded sizes may exceed the leading dimension: one of the same alignment stands in for it.
  static void make(OwnedLayout& layout, DType dtype, int64_t rows, int64_t columns, int64_t leading) {
    if (leading < rows) leading = rows + leading % 8;
    check_lt(
        library().cublasLtMatrixLayoutCreate(layout.to_make(), data_type(dtype), static_cast<uint64_t>(rows),
                                             static_cast<uint64_t>(columns), leading),
        "cublasLtMatrixLayoutCreate");
  }
};

// Eight steps in each power of two: so batches of like sizes share an algorithm. The remainder by 8 stays: an
// algorithm may depend on it.
int64_t rounded_up(int64_t size) {
  if (size <= 64) return size;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size - 1))) / 8;
  return ceil_div(size, step) * step + size % 8;
}

uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return address % 16 == 0 ? 16 : static_cast<uint32_t>(address & -address);
}

struct Choice {
  lt::Algorithm algorithm;
  size_t workspace;  // bytes
};

std::optional<Choice> best_for(const Product& p) {
  const Descriptors d(p);
  OwnedPreference preference;
  check_lt(library().cublasLtMatmulPreferenceCreate(preference.to_make()), "cublasLtMatmulPreferenceCreate");
  const auto set = [&](lt::PreferenceAttribute attribute, auto value) {
    check_lt(library().cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
             "cublasLtMatmulPreferenceSetAttribute");
  };
  set(lt::maximum_workspace, uint64_t{32} << 20);
  set(lt::alignment_a, alignment_of(p.b.data));
  set(lt::alignment_b, alignment_of(p.a.data));
  set(lt::alignment_c, alignment_of(p.c.data));
  set(lt::alignment_d, alignment_of(p.c.data));
  lt::Heuristic found = {};
  int32_t count = 0;
  const lt::Status status = library().cublasLtMatmulAlgoGetHeuristic(
      context(), d.operation, d.first, d.second, d.result, d.result, preference, 1, &found, &count);
  if (status == lt::not_supported || (status == lt::success && (count == 0 || found.state != lt::success)))
    return {};
  check_lt(status, "cublasLtMatmulAlgoGetHeuristic");
  return Choice{found.algorithm, found.workspace};
}

using Key = std::array<int64_t, 8>;

Key key_of(const Product& p) {
  const int64_t alignments = alignment_of(p.a.data) | alignment_of(p.b.data) << 8 |
                             alignment_of(p.c.data) << 16 | alignment_of(p.bias) << 24;
  const int64_t kind = p.a.transposed | p.b.transposed << 1 | p.c.accumulate << 2 | (p.bias != nullptr) << 3 |
                       p.relu << 4 | (p.dtype == DType::bfloat16) << 5 | (p.c.dtype == DType::bfloat16) << 6;
  return {p.m, p.n, p.k, p.a.ld, p.b.ld, p.c.ld, alignments, kind};
}

// The choice for exactly this key, made on first use.
std::optional<Choice> choice_for(const Product& p) {
  static std::mutex mutex;
  static std::map<Key, std::optional<Choice>> choices;
  const std::lock_guard lock(mutex);
  const auto [place, fresh] = choices.try_emplace(key_of(p));
  if (fresh) place->second = best_for(p);
  return place->second;
}

lt::Status run(const Product& p, const std::optional<Choice>& choice) {
  if (!choice) return lt::not_supported;
  const Descriptors d(p);
  const float one = 1.0f, beta = p.c.accumulate ? 1.0f : 0.0f;
  std::optional<Scratch> workspace;
  if (choice->workspace > 0) workspace.emplace(static_cast<int64_t>(choice->workspace));
  return library().cublasLtMatmul(context(), d.operation, &one, p.b.data, d.first, p.a.data, d.second, &beta,
                                  p.c.data, d.result, p.c.data, d.result, &choice->algorithm,
                                  workspace ? workspace->data : nullptr, choice->workspace, stream());
}

// C where the sums have no terms: the bias after its activation, or 0.
template <class T>
__global__ void __launch_bounds__(block_threads) fill_rows(Product p) {
  const int64_t index = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (index >= p.m * p.n) return;
  const int64_t row = index / p.n, column = index % p.n;
  const float value = p.bias == nullptr ? 0.0f : to_float(static_cast<const T*>(p.bias)[column]);
  static_cast<T*>(p.c.data)[row * p.c.ld + column] = from_float<T>(p.relu ? fmaxf(value, 0.0f) : value);
}

}  // namespace

const std::string& cublaslt_problem() {
  return opened().problem;
}

void product(int64_t m, int64_t n, int64_t k, DType dtype, const Factor& a, const Factor& b, const Result& c,
             const float* bias, bool relu) {
  Product p = {m, n, k, dtype, a, b, c, bias, relu};
  if (p.m == 0 || p.n == 0 || (p.k == 0 && p.c.accumulate)) return;
  std::optional<Scratch> rounded_bias;
  if (bias != nullptr && c.dtype != DType::float32) {
    rounded_bias.emplace(n * item_size(c.dtype));
    cast({.x = bias, .y = rounded_bias->data, .size = n, .from = DType::float32, .to = c.dtype});
    p.bias = rounded_bias->data;
  }
  if (p.k == 0) {
    return with_dtype(p.c.dtype, [&](auto element) {
      launch(fill_rows<decltype(element)>, grid_of(ceil_div(p.m * p.n, block_threads)), dim3(block_threads),
             0, p);
    });
  }
  Product rounded = p;
  rounded.m = rounded_up(p.m), rounded.n = rounded_up(p.n), rounded.k = rounded_up(p.k);
  lt::Status status = run(p, choice_for(rounded));
  if (status == lt::not_supported || status == lt::invalid_value) status = run(p, choice_for(p));
  if (status != lt::success) {
    throw std::runtime_error(
        concat("cuBLASLt: the product of sizes ", p.m, ", ", p.n, ", ", p.k, " failed with status ", status));
  }
}

}  // namespace dragoman::cuda
