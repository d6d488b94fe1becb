#include "decode/ensemble_steps.h"

#include <utility>

#include "ops/elementwise.h"

namespace dragoman {

namespace {

// The mean of call(model) over the models.
template <class Call>
Tensor mean_of(const std::vector<std::shared_ptr<Steps>>& models, const Call& call) {
  const double share = 1.0 / static_cast<double>(models.size());
  const Tensor first = call(*models.front());
  const Tensor mean = Tensor::empty(first.shape(), first.dtype(), first.device());
  accumulate(mean, first, share, false);
  for (size_t i = 1; i < models.size(); ++i)
    accumulate(mean, call(*models[i]).to(mean.device()), share, true);
  return mean;
}

}  // namespace

EnsembleSteps::EnsembleSteps(std::vector<std::shared_ptr<Steps>> models) : models_(std::move(models)) {
  CHECK(!models_.empty(), "EnsembleSteps: models must hold at least one, got none");
}

Tensor EnsembleSteps::add(const std::vector<Entry>& entries) {
  return mean_of(models_, [&](Steps& model) { return model.add(entries); });
}

Tensor EnsembleSteps::next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) {
  return mean_of(models_, [&](Steps& model) { return model.next(ids, parents); });
}

}  // namespace dragoman
