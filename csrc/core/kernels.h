// The table of kernels a backend brings: one function per contract struct of csrc/ops.
#pragma once

#include <cstdint>

namespace dragoman {

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

}  // namespace dragoman
