// The kernels that a backend brings, and which of them serve a device: for the CPU, which instruction set.
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
  X(int8_matmul, Int8Matmul)                                 \
  X(activation_forward, ActivationForward)                   \
  X(activation_backward, ActivationBackward)                 \
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
  X(add, Add)                                                \
  X(scale, Scale)                                            \
  X(accumulate, Accumulate)                                  \
  X(cast, Cast)                                              \
  X(cross_entropy_forward, CrossEntropyForward)              \
  X(linear_cross_entropy_forward, LinearCrossEntropyForward) \
  X(adamw_step, AdamW)                                       \
  X(gradient_norm, GradientNorm)                             \
  X(moving_average, MovingAverage)                           \
  X(kv_cache_append, KVCacheAppend)                          \
  X(kv_cache_reorder, KVCacheReorder)

#define DRAGOMAN_FORWARD_DECLARE(name, Params) struct Params;
DRAGOMAN_KERNELS(DRAGOMAN_FORWARD_DECLARE)
#undef DRAGOMAN_FORWARD_DECLARE

struct Kernels {
#define DRAGOMAN_MEMBER(name, Params) void (*name)(const Params&);
  DRAGOMAN_KERNELS(DRAGOMAN_MEMBER)
#undef DRAGOMAN_MEMBER
  int64_t (*packed_weight_size)(const PackWeight&);  // floats that pack_weight writes
};

// The one place where a missing backend fails: ValueError naming what to install.
const Kernels& kernels(Device device);
inline const Kernels& kernels(const Tensor& tensor) {
  return kernels(tensor.device());
}

// The CPU's instruction-set variant, chosen once: the best the machine runs, or the environment's
// DRAGOMAN_ISA.
const std::string& cpu_isa();
std::vector<std::string> cpu_isas();  // those compiled in that this machine runs, best last

}  // namespace dragoman
