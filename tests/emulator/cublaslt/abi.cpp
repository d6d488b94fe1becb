// Compiles where csrc/cuda/cublaslt_abi.h says what cuBLASLt's own header says.
#include <cublasLt.h>

#include <cstddef>
#include <type_traits>

#include "cuda/cublaslt_abi.h"

namespace lt = dragoman::cuda::lt;

#define SAME(ours, theirs) static_assert(static_cast<int>(lt::ours) == static_cast<int>(theirs))
SAME(success, CUBLAS_STATUS_SUCCESS);
SAME(invalid_value, CUBLAS_STATUS_INVALID_VALUE);
SAME(not_supported, CUBLAS_STATUS_NOT_SUPPORTED);
SAME(float32, CUDA_R_32F);
SAME(bfloat16, CUDA_R_16BF);
SAME(compute_float32, CUBLAS_COMPUTE_32F);
SAME(keep, CUBLAS_OP_N);
SAME(transpose, CUBLAS_OP_T);
SAME(plain, CUBLASLT_EPILOGUE_DEFAULT);
SAME(relu, CUBLASLT_EPILOGUE_RELU);
SAME(bias, CUBLASLT_EPILOGUE_BIAS);
SAME(relu_bias, CUBLASLT_EPILOGUE_RELU_BIAS);
SAME(transpose_a, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(transpose_b, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(epilogue, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(bias_pointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(maximum_workspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(alignment_a, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(alignment_b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(alignment_c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(alignment_d, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);

static_assert(sizeof(lt::Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(lt::Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(lt::Heuristic, algorithm) == offsetof(cublasLtMatmulHeuristicResult_t, algo));
static_assert(offsetof(lt::Heuristic, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(lt::Heuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(lt::Heuristic, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

// Functions of as many parameters, of the same sizes, pointers where the other has pointers.
template <class Ours, class Theirs>
constexpr bool same_functions = false;
template <class R, class... P, class S, class... Q>
  requires(sizeof...(P) == sizeof...(Q))
constexpr bool same_functions<R (*)(P...), S (*)(Q...)> =
    sizeof(R) == sizeof(S) &&
    ((sizeof(P) == sizeof(Q) && std::is_pointer_v<P> == std::is_pointer_v<Q>) && ...);
#define COMPARE(name, parameters) static_assert(same_functions<lt::Status(*) parameters, decltype(&name)>);
DRAGOMAN_CUBLASLT(COMPARE)
