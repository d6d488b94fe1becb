#include "ops/top_k.h"

#include <algorithm>

#include "core/backend.h"

namespace dragoman {

std::tuple<Tensor, Tensor, Tensor> top_k(const Tensor& logits, int64_t k) {
  check_dtype("top_k", "logits", logits, DType::float32);
  check_rank("top_k", "logits", logits, 2);
  CHECK(k >= 1, "top_k: k must be at least 1, got ", k);
  const int64_t rows = logits.dim(0), vocabulary = logits.dim(1);
  CHECK(vocabulary >= 1, "top_k: logits must have at least 1 column, got shape ", logits.shape());
  k = std::min(k, vocabulary);
  const Device device = logits.device();
  const Tensor ids = Tensor::empty({rows, k}, DType::int32, device);
  const Tensor values = Tensor::empty({rows, k}, DType::float32, device);
  const Tensor softmax = Tensor::empty({rows, 2}, DType::float32, device);
  kernels(logits).top_k({.logits = logits.data<float>(),
                         .ids = ids.data<int32_t>(),
                         .values = values.data<float>(),
                         .softmax = softmax.data<float>(),
                         .rows = rows,
                         .vocabulary = vocabulary,
                         .k = k});
  return {ids, values, softmax};
}

}  // namespace dragoman
