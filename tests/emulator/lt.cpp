// A plain cuBLASLt for the emulator: the functions that csrc/cuda/cublaslt_abi.h declares, by loops. What a
// call of them may not do is refused, as cuBLASLt does.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/cublaslt_abi.h"
#include "cuda_runtime.h"

namespace lt = dragoman::cuda::lt;

namespace dragoman::cuda::lt {

struct Context {};

struct Operation {
  DataType scale;
  Transpose a = keep, b = keep;
  Epilogue epilogue = plain;
  const void* bias = nullptr;
};

struct Layout {
  DataType type;
  uint64_t rows, columns;
  int64_t leading;
  Order order = by_column;
  int32_t batch_count = 1;
  int64_t batch_stride = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

}  // namespace dragoman::cuda::lt

namespace {

constexpr uint64_t mark = 0x706C61696E;  // in algorithms of ours
constexpr size_t workspace_needed = 1024;

// Reads or writes one element of a matrix.
class Matrix {
 public:
  Matrix(const void* data, const lt::Layout& layout, int64_t batch)
      : layout_(layout), size_(layout.type == lt::bfloat16 ? 2 : 4) {
    data_ = static_cast<char*>(const_cast<void*>(data)) + batch * layout.batch_stride * size_;
  }

  float at(uint64_t row, uint64_t column) const {
    uint32_t bits = 0;
    if (size_ == 2) {
      std::memcpy(reinterpret_cast<char*>(&bits) + 2, place(row, column), 2);
    } else {
      std::memcpy(&bits, place(row, column), 4);
    }
    return __uint_as_float(bits);
  }

  void put(uint64_t row, uint64_t column, float value) const {
    uint32_t bits = __float_as_uint(value);
    if (size_ == 4) {
      std::memcpy(place(row, column), &bits, 4);
      return;
    }
    bits = value != value ? 0x7FC00000 : bits + 0x7FFF + (bits >> 16 & 1);  // to the nearest, ties to even
    std::memcpy(place(row, column), reinterpret_cast<char*>(&bits) + 2, 2);
  }

 private:
  char* place(uint64_t row, uint64_t column) const {
    const bool by_row = layout_.order == lt::by_row;
    const auto major = static_cast<int64_t>(by_row ? row : column),
               minor = static_cast<int64_t>(by_row ? column : row);
    return data_ + (major * layout_.leading + minor) * size_;
  }

  lt::Layout layout_;
  int64_t size_;
  char* data_;
};

uint64_t rows_of(const lt::Layout& layout, lt::Transpose transposed) {
  return transposed == lt::keep ? layout.rows : layout.columns;
}

uint64_t columns_of(const lt::Layout& layout, lt::Transpose transposed) {
  return transposed == lt::keep ? layout.columns : layout.rows;
}

bool is_valid(const lt::Layout& layout) {
  const uint64_t contiguous = layout.order == lt::by_row ? layout.columns : layout.rows;
  return layout.rows > 0 && layout.columns > 0 && layout.leading >= static_cast<int64_t>(contiguous);
}

lt::Status check(const lt::Operation& operation, const lt::Layout& a, const lt::Layout& b,
                 const lt::Layout& c, const lt::Layout& d) {
  for (const lt::Layout* layout : {&a, &b, &c, &d}) {
    if (!is_valid(*layout) || layout->batch_count != d.batch_count) return lt::invalid_value;
  }
  if (rows_of(a, operation.a) != d.rows || columns_of(b, operation.b) != d.columns ||
      columns_of(a, operation.a) != rows_of(b, operation.b) || c.rows != d.rows || c.columns != d.columns) {
    return lt::invalid_value;
  }
  const bool types = a.type == b.type && c.type == d.type && (d.type == a.type || d.type == lt::float32);
  return types && operation.scale == lt::float32 ? lt::success : lt::not_supported;
}

bool has_bias(const lt::Operation& operation) { return (operation.epilogue & lt::bias) != 0; }

struct Call {
  lt::Operation operation;
  lt::Layout a_layout, b_layout, c_layout, d_layout;
  float alpha, beta;
  const void *a, *b, *c;
  void* d;

  void run() const {
    for (int64_t batch = 0; batch < d_layout.batch_count; ++batch) run(batch);
  }

  void run(int64_t batch) const {
    const Matrix a_matrix(a, a_layout, batch), b_matrix(b, b_layout, batch), c_matrix(c, c_layout, batch);
    const Matrix d_matrix(d, d_layout, batch);
    const Matrix bias(operation.bias, {d_layout.type, d_layout.rows, 1, static_cast<int64_t>(d_layout.rows)},
                      0);
    const uint64_t rows = d_layout.rows, terms = columns_of(a_layout, operation.a);
    std::vector<double> factors(terms * rows), sums(rows);  // op(A) by columns
    for (uint64_t i = 0; i < terms; ++i) {
      for (uint64_t row = 0; row < rows; ++row) {
        factors[i * rows + row] = operation.a == lt::keep ? a_matrix.at(row, i) : a_matrix.at(i, row);
      }
    }
    for (uint64_t column = 0; column < d_layout.columns; ++column) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (uint64_t i = 0; i < terms; ++i) {
        const double factor = operation.b == lt::keep ? b_matrix.at(i, column) : b_matrix.at(column, i);
        for (uint64_t row = 0; row < rows; ++row) sums[row] += factor * factors[i * rows + row];
      }
      for (uint64_t row = 0; row < rows; ++row) {
        float sum = alpha * static_cast<float>(sums[row]);
        if (beta != 0.0f) sum += beta * c_matrix.at(row, column);
        if (has_bias(operation)) sum += bias.at(row, 0);
        if ((operation.epilogue & lt::relu) != 0) sum = std::max(sum, 0.0f);
        d_matrix.put(row, column, sum);
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
lt::Status destroy(T* object) {
  delete object;
  return lt::success;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT lt::Status cublasLtCreate(lt::Context** context) {
  *context = new lt::Context;
  return lt::success;
}

EXPORT lt::Status cublasLtMatmulDescCreate(lt::Operation** operation, lt::ComputeType compute,
                                           lt::DataType scale) {
  if (compute != lt::compute_float32) return lt::not_supported;
  *operation = new lt::Operation{.scale = scale};
  return lt::success;
}

EXPORT lt::Status cublasLtMatmulDescDestroy(lt::Operation* operation) { return destroy(operation); }

EXPORT lt::Status cublasLtMatmulDescSetAttribute(lt::Operation* operation, lt::OperationAttribute attribute,
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

EXPORT lt::Status cublasLtMatrixLayoutCreate(lt::Layout** layout, lt::DataType type, uint64_t rows,
                                             uint64_t columns, int64_t leading) {
  *layout = new lt::Layout{.type = type, .rows = rows, .columns = columns, .leading = leading};
  return lt::success;
}

EXPORT lt::Status cublasLtMatrixLayoutDestroy(lt::Layout* layout) { return destroy(layout); }

EXPORT lt::Status cublasLtMatrixLayoutSetAttribute(lt::Layout* layout, lt::LayoutAttribute attribute,
                                                   const void* value, size_t size) {
  switch (attribute) {
    case lt::order:
      return take(layout->order, value, size);
    case lt::batch_count:
      return take(layout->batch_count, value, size);
    case lt::batch_stride:
      return take(layout->batch_stride, value, size);
    default:
      return lt::invalid_value;
  }
}

EXPORT lt::Status cublasLtMatmulPreferenceCreate(lt::Preference** preference) {
  *preference = new lt::Preference;
  return lt::success;
}

EXPORT lt::Status cublasLtMatmulPreferenceDestroy(lt::Preference* preference) { return destroy(preference); }

EXPORT lt::Status cublasLtMatmulPreferenceSetAttribute(lt::Preference* preference,
                                                       lt::PreferenceAttribute attribute, const void* value,
                                                       size_t size) {
  if (attribute == lt::maximum_workspace) return take(preference->workspace, value, size);
  if (attribute < lt::alignment_a || attribute > lt::alignment_d) return lt::invalid_value;
  return take(preference->alignment[attribute - lt::alignment_a], value, size);
}

// An algorithm holds for the alignments that were promised, and needs some workspace.
EXPORT lt::Status cublasLtMatmulAlgoGetHeuristic(lt::Context*, lt::Operation* operation, lt::Layout* a,
                                                 lt::Layout* b, lt::Layout* c, lt::Layout* d,
                                                 lt::Preference* preference, int32_t wanted,
                                                 lt::Heuristic* found, int32_t* count) {
  *count = 0;
  const lt::Status status = check(*operation, *a, *b, *c, *d);
  if (status != lt::success) return status;
  if (wanted < 1 || preference->workspace < workspace_needed) return lt::not_supported;
  *found = {};
  found->algorithm.data[0] = mark;
  for (int i = 0; i < 4; ++i) found->algorithm.data[1 + i] = preference->alignment[i];
  found->workspace = workspace_needed;
  *count = 1;
  return lt::success;
}

EXPORT lt::Status cublasLtMatmul(lt::Context*, lt::Operation* operation, const void* alpha, const void* a,
                                 lt::Layout* a_layout, const void* b, lt::Layout* b_layout, const void* beta,
                                 const void* c, lt::Layout* c_layout, void* d, lt::Layout* d_layout,
                                 const lt::Algorithm* algorithm, void* workspace, size_t workspace_size,
                                 void* stream) {
  const lt::Status status = check(*operation, *a_layout, *b_layout, *c_layout, *d_layout);
  if (status != lt::success) return status;
  if (algorithm->data[0] != mark || workspace == nullptr || workspace_size < workspace_needed)
    return lt::invalid_value;
  const void* matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<uintptr_t>(matrices[i]) % algorithm->data[1 + i] != 0) return lt::invalid_value;
  }
  if (has_bias(*operation) && operation->bias == nullptr) return lt::invalid_value;
  Call call = {*operation, *a_layout, *b_layout, *c_layout, *d_layout, 0.0f, 0.0f, a, b, c, d};
  std::memcpy(&call.alpha, alpha, sizeof(float));
  std::memcpy(&call.beta, beta, sizeof(float));
  emulator::enqueue(static_cast<cudaStream_t>(stream), [call, workspace] {
    std::memset(workspace, 0xFF, workspace_needed);  // whoever uses it meanwhile reads NaN
    call.run();
  });
  return lt::success;
}
