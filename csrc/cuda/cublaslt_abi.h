// What the backend calls of cuBLASLt 13, declared here: it builds without cuBLAS's headers. A test compares
// these declarations with the header.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dragoman::cuda::lt {

using Status = int32_t;
inline constexpr Status success = 0, invalid_value = 7, not_supported = 15;

enum DataType : int32_t { float32 = 0, bfloat16 = 14 };
enum ComputeType : int32_t { compute_float32 = 68 };  // never TF32
enum Transpose : int32_t { keep = 0, transpose = 1 };
enum Epilogue : int32_t { plain = 1, relu = 2, bias = 4, relu_bias = 6 };

enum OperationAttribute : int32_t {
  transpose_a = 3,
  transpose_b = 4,
  epilogue = 7,
  bias_pointer = 8,
};

enum PreferenceAttribute : int32_t {
  maximum_workspace = 1,
  alignment_a = 5,
  alignment_b = 6,
  alignment_c = 7,
  alignment_d = 8,
};

struct Context;
struct Operation;
struct Layout;
struct Preference;

struct Algorithm {
  uint64_t data[8];
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int32_t reserved[4];
};

// X(name, parameters); every function returns a Status.
#define DRAGOMAN_CUBLASLT(X)                                                                             \
  X(cublasLtCreate, (lt::Context * *context))                                                            \
  X(cublasLtMatmulDescCreate, (lt::Operation * *operation, lt::ComputeType compute, lt::DataType scale)) \
  X(cublasLtMatmulDescDestroy, (lt::Operation * operation))                                              \
  X(cublasLtMatmulDescSetAttribute,                                                                      \
    (lt::Operation * operation, lt::OperationAttribute attribute, const void* value, size_t size))       \
  X(cublasLtMatrixLayoutCreate,                                                                          \
    (lt::Layout * *layout, lt::DataType type, uint64_t rows, uint64_t columns, int64_t leading))         \
  X(cublasLtMatrixLayoutDestroy, (lt::Layout * layout))                                                  \
  X(cublasLtMatmulPreferenceCreate, (lt::Preference * *preference))                                      \
  X(cublasLtMatmulPreferenceDestroy, (lt::Preference * preference))                                      \
  X(cublasLtMatmulPreferenceSetAttribute,                                                                \
    (lt::Preference * preference, lt::PreferenceAttribute attribute, const void* value, size_t size))    \
  X(cublasLtMatmulAlgoGetHeuristic,                                                                      \
    (lt::Context * context, lt::Operation * operation, lt::Layout * a, lt::Layout * b, lt::Layout * c,   \
     lt::Layout * d, lt::Preference * preference, int32_t wanted, lt::Heuristic* found, int32_t* count)) \
  X(cublasLtMatmul, (lt::Context * context, lt::Operation * operation, const void* alpha, const void* a, \
                     lt::Layout* a_layout, const void* b, lt::Layout* b_layout, const void* beta,        \
                     const void* c, lt::Layout* c_layout, void* d, lt::Layout* d_layout,                 \
                     const lt::Algorithm* algorithm, void* workspace, size_t workspace_size, void* stream))

}  // namespace dragoman::cuda::lt
