// EnsembleSteps: several models that decode as one.
#pragma once

#include <memory>

#include "decode/steps.h"

namespace dragoman {

// The mean of the models' logits. Its softmax is the normalised geometric mean of their distributions: log
// probabilities are averaged.
class EnsembleSteps : public Steps {
 public:
  explicit EnsembleSteps(std::vector<std::shared_ptr<Steps>> models);  // ValueError without a model

  Tensor add(const std::vector<Entry>& entries) override;
  Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) override;
  void keep_attention(bool kept) override;
  std::vector<std::vector<float>> attention() override;  // the mean of the models'
  void narrow(const std::vector<int32_t>& tokens) override;

 private:
  // Takes all rows out of all models. Goes on when one throws, and throws the first error in the end.
  Tensor leave();

  std::vector<std::shared_ptr<Steps>> models_;
};

}  // namespace dragoman
