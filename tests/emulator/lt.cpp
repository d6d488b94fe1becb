// A plain cuBLASLt for the emulator: the functions that csrc/cuda/cublaslt_abi.h declares, by loops. What a
// call of them may not do is refused, as cuBLASLt does.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/cublaslt_abi.h"
#include "cuda_bf16.h"
#include "cuda_runtime.h"

namespace lt = dragoman::cuda::lt;

namespace dragoman::cuda::lt {

struct Context {};

struct Operation {
  Transpose a = keep, b = keep;
  Epilogue epilogue = plain;
  const void* bias = nullptr;
};

struct Layout {
  DataType type;
  uint64_t rows, columns;
  int64_t leading;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

}  // namespace dragoman::cuda::lt

namespace {

constexpr uint64_t mark = 0x706C61696E;  // in algorithms of ours
constexpr size_t workspace_needed = 1024;

// Reads or writes one element of a matrix, or of its transpose.
struct Matrix {
  const void* data;
  lt::Layout layout;
  lt::Transpose transposed = lt::keep;

  uint64_t rows() const { return transposed ? layout.columns : layout.rows; }
  uint64_t columns() const { return transposed ? layout.rows : layout.columns; }
  size_t place(uint64_t row, uint64_t column) const {
    return (transposed ? row : column) * static_cast<size_t>(layout.leading) + (transposed ? column : row);
  }
  float at(uint64_t row, uint64_t column) const {
    const size_t i = place(row, column);
    return layout.type == lt::float32 ? static_cast<const float*>(data)[i]
                                      : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
  }
  void put(uint64_t row, uint64_t column, float value) const {
    void* to = const_cast<void*>(data);
    const size_t i = place(row, column);
    if (layout.type == lt::float32) {
      static_cast<float*>(to)[i] = value;
    } else {
      static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16_rn(value);
    }
  }
};

// D = alpha op(A) op(B) + beta C, then the epilogue
struct Call {
  lt::Operation operation;
  Matrix a, b, c, d;
  float alpha = 0.0f, beta = 0.0f;

  bool has_bias() const { return (operation.epilogue & lt::bias) != 0; }

  lt::Status check() const {
    for (const Matrix* matrix : {&a, &b, &c, &d}) {
      const lt::Layout& layout = matrix->layout;
      if (layout.rows == 0 || layout.columns == 0 || layout.leading < static_cast<int64_t>(layout.rows))
        return lt::invalid_value;
    }
    if (a.rows() != d.rows() || b.columns() != d.columns() || a.columns() != b.rows() ||
        c.rows() != d.rows() || c.columns() != d.columns()) {
      return lt::invalid_value;
    }
    const lt::DataType in = a.layout.type, out = d.layout.type;
    const bool known = in == b.layout.type && out == c.layout.type && (out == in || out == lt::float32);
    return known ? lt::success : lt::not_supported;
  }

  void run() const {
    const uint64_t rows = d.rows(), terms = a.columns();
    const Matrix bias = {operation.bias, {d.layout.type, rows, 1, static_cast<int64_t>(rows)}};
    std::vector<double> factors(terms * rows), sums(rows);  // op(A) by columns
    for (uint64_t i = 0; i < terms; ++i) {
      for (uint64_t row = 0; row < rows; ++row) factors[i * rows + row] = a.at(row, i);
    }
    for (uint64_t column = 0; column < d.columns(); ++column) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (uint64_t i = 0; i < terms; ++i) {
        const double factor = b.at(i, column);
        for (uint64_t row = 0; row < rows; ++row) sums[row] += factor * factors[i * rows + row];
      }
      for (uint64_t row = 0; row < rows; ++row) {
        float sum = alpha * static_cast<float>(sums[row]);
        if (beta != 0.0f) sum += beta * c.at(row, column);
        if (has_bias()) sum += bias.at(row, 0);
        if ((operation.epilogue & lt::relu) != 0) sum = std::max(sum, 0.0f);
        d.put(row, column, sum);
      }
    }
  }
};

template <class T>
lt::Status take(T& member, const void* value, size_t size) {
  if (size != sizeof(T)) return lt::invalid_value;
  std::memcpy(&member, value, size);
  return lt::success;
}

template <class T>
lt::Status make(T** made, T value) {
  *made = new T(value);
  return lt::success;
}

template <class T>
lt::Status destroy(T* object) {
  delete object;
  return lt::success;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) lt::Status

EXPORT cublasLtCreate(lt::Context** context) { return make(context, {}); }

EXPORT cublasLtMatmulDescCreate(lt::Operation** operation, lt::ComputeType compute, lt::DataType scale) {
  return compute == lt::compute_float32 && scale == lt::float32 ? make(operation, {}) : lt::not_supported;
}

EXPORT cublasLtMatmulDescDestroy(lt::Operation* operation) { return destroy(operation); }

EXPORT cublasLtMatmulDescSetAttribute(lt::Operation* operation, lt::OperationAttribute attribute,
                                      const void* value, size_t size) {
  switch (attribute) {
    case lt::transpose_a:
      return take(operation->a, value, size);
    case lt::transpose_b:
      return take(operation->b, value, size);
    case lt::epilogue:
      return take(operation->epilogue, value, size);
    case lt::bias_pointer:
      return take(operation->bias, value, size);
    default:
      return lt::invalid_value;
  }
}

EXPORT cublasLtMatrixLayoutCreate(lt::Layout** layout, lt::DataType type, uint64_t rows, uint64_t columns,
                                  int64_t leading) {
  return make(layout, {type, rows, columns, leading});
}

EXPORT cublasLtMatrixLayoutDestroy(lt::Layout* layout) { return destroy(layout); }

EXPORT cublasLtMatmulPreferenceCreate(lt::Preference** preference) { return make(preference, {}); }

EXPORT cublasLtMatmulPreferenceDestroy(lt::Preference* preference) { return destroy(preference); }

EXPORT cublasLtMatmulPreferenceSetAttribute(lt::Preference* preference, lt::PreferenceAttribute attribute,
                                            const void* value, size_t size) {
  if (attribute == lt::maximum_workspace) return take(preference->workspace, value, size);
  if (attribute < lt::alignment_a || attribute > lt::alignment_d) return lt::invalid_value;
  return take(preference->alignment[attribute - lt::alignment_a], value, size);
}

// An algorithm holds for the alignments that were promised, and needs some workspace.
EXPORT cublasLtMatmulAlgoGetHeuristic(lt::Context*, lt::Operation* operation, lt::Layout* a, lt::Layout* b,
                                      lt::Layout* c, lt::Layout* d, lt::Preference* preference,
                                      int32_t wanted, lt::Heuristic* found, int32_t* count) {
  *count = 0;
  const Call call = {*operation, {0, *a, operation->a}, {0, *b, operation->b}, {0, *c}, {0, *d}};
  if (const lt::Status status = call.check(); status != lt::success) return status;
  if (wanted < 1 || preference->workspace < workspace_needed) return lt::not_supported;
  *found = {};
  found->algorithm.data[0] = mark;
  found->workspace = workspace_needed;
  std::copy_n(preference->alignment, 4, found->algorithm.data + 1);
  *count = 1;
  return lt::success;
}

EXPORT cublasLtMatmul(lt::Context*, lt::Operation* operation, const void* alpha, const void* a,
                      lt::Layout* a_layout, const void* b, lt::Layout* b_layout, const void* beta,
                      const void* c, lt::Layout* c_layout, void* d, lt::Layout* d_layout,
                      const lt::Algorithm* algorithm, void* workspace, size_t workspace_size, void* stream) {
  Call call = {
      *operation, {a, *a_layout, operation->a}, {b, *b_layout, operation->b}, {c, *c_layout}, {d, *d_layout}};
  if (const lt::Status status = call.check(); status != lt::success) return status;
  if (algorithm->data[0] != mark || workspace == nullptr || workspace_size < workspace_needed ||
      (call.has_bias() && operation->bias == nullptr)) {
    return lt::invalid_value;
  }
  const void* matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<uintptr_t>(matrices[i]) % algorithm->data[1 + i] != 0) return lt::invalid_value;
  }
  std::memcpy(&call.alpha, alpha, sizeof(float));
  std::memcpy(&call.beta, beta, sizeof(float));
  emulator::enqueue(static_cast<cudaStream_t>(stream), [call, workspace] {
    std::memset(workspace, 0xFF, workspace_needed);  // whoever uses it meanwhile reads NaN
    call.run();
  });
  return lt::success;
}
