// A backend: the memory functions and the kernels of one device. For the CPU, also the choice of the
// instruction set.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/tensor.h"

namespace dragoman {

// One function per contract struct of csrc/ops.
#define DRAGOMAN_KERNELS(X)                                  \
  X(pack_weight, PackWeight)                                 \
  X(linear_forward, LinearForward)                           \
  X(linear_backward, LinearBackward)                         \
  X(quantize_rows, QuantizeRows)                             \
  X(unpack_weight, UnpackWeight)                             \
  X(frozen_linear, FrozenLinear)                             \
  X(activation_forward, ActivationForward)                   \
  X(activation_backward, ActivationBackward)                 \
  X(gate_forward, GateForward)                               \
  X(gate_backward, GateBackward)                             \
  X(attention_forward, AttentionForward)                     \
  X(attention_backward, AttentionBackward)                   \
  X(layer_norm_forward, LayerNormForward)                    \
  X(layer_norm_backward, LayerNormBackward)                  \
  X(residual_norm_forward, ResidualNormForward)              \
  X(residual_norm_backward, ResidualNormBackward)            \
  X(residual_forward, ResidualForward)                       \
  X(dropout_forward, DropoutForward)                         \
  X(embedding_forward, EmbeddingForward)                     \
  X(embedding_backward, EmbeddingBackward)                   \
  X(frozen_embedding, FrozenEmbedding)                       \
  X(rotary, Rotary)                                          \
  X(binary, Binary)                                          \
  X(unary, Unary)                                            \
  X(accumulate, Accumulate)                                  \
  X(scale_by, ScaleBy)                                       \
  X(cast, Cast)                                              \
  X(reduce, Reduce)                                          \
  X(gather_forward, GatherForward)                           \
  X(gather_backward, GatherBackward)                         \
  X(copy_rows, CopyRows)                                     \
  X(pool_forward, PoolForward)                               \
  X(pool_backward, PoolBackward)                             \
  X(softmax_forward, SoftmaxForward)                         \
  X(softmax_backward, SoftmaxBackward)                       \
  X(top_k, TopK)                                             \
  X(matmul, Matmul)                                          \
  X(transpose, Transpose)                                    \
  X(cross_entropy_forward, CrossEntropyForward)              \
  X(linear_cross_entropy_forward, LinearCrossEntropyForward) \
  X(adamw_step, AdamW)                                       \
  X(square_sums, SquareSums)                                 \
  X(norm_of_sums, NormOfSums)                                \
  X(moving_average, MovingAverage)                           \
  X(kv_cache_append, KVCacheAppend)                          \
  X(kv_cache_reorder, KVCacheReorder)

#define DRAGOMAN_FORWARD_DECLARE(name, Params) struct Params;
DRAGOMAN_KERNELS(DRAGOMAN_FORWARD_DECLARE)
#undef DRAGOMAN_FORWARD_DECLARE

// linear_cross_entropy_forward computes its logits in chunks; this is the size of one.
struct LossChunk {
  int64_t rows;
  int64_t logits_row;  // elements from a row to the next, at least the vocabulary
};

struct Kernels {
#define DRAGOMAN_MEMBER(name, Params) void (*name)(const Params&);
  DRAGOMAN_KERNELS(DRAGOMAN_MEMBER)
#undef DRAGOMAN_MEMBER
  int64_t (*packed_weight_size)(const PackWeight&);  // bytes that pack_weight writes; 0: none are kept
  LossChunk (*loss_chunk)(int64_t rows, int64_t vocabulary, DType dtype);
};

enum class CopyKind : int32_t { to_device, to_host, within };

// Kernels, copies and zero run in the order in which they were started.
struct Memory {
  void* (*allocate)(int64_t size);  // null when there is none left; 64-byte aligned
  void (*free)(void* block, int64_t size);
  // When it returns, a host source may change, and a host destination holds the bytes.
  void (*copy)(void* to, const void* from, int64_t nbytes, CopyKind kind);
  void (*zero)(void* data, int64_t nbytes);
  void (*synchronize)();  // returns when everything started so far has run
  uintptr_t (*stream)();  // the handle of the stream in which all of it runs; 0: there are no streams
  void (*let_wait)(
      uintptr_t stream);  // what begins in this stream from now on waits for what was started so far
  bool cached;            // whether freed blocks are kept for later requests
};

// The one place where a missing backend fails: ValueError naming what to install.
const Memory& memory(Device device);
const Kernels& kernels(Device device);
inline const Kernels& kernels(const Tensor& tensor) {
  return kernels(tensor.device());
}

// The CPU's instruction-set variant, chosen once: the best the machine runs, or the environment's
// DRAGOMAN_ISA.
const std::string& cpu_isa();
std::vector<std::string> cpu_isas();  // those compiled in that this machine runs, best last

}  // namespace dragoman
