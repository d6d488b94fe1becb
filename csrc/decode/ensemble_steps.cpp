#include "decode/ensemble_steps.h"

#include <exception>
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
  if (ids.empty()) return leave();
  return mean_of(models_, [&](Steps& model) { return model.next(ids, parents); });
}

void EnsembleSteps::keep_attention(bool kept) {
  for (const std::shared_ptr<Steps>& model : models_) model->keep_attention(kept);
}

std::vector<std::vector<float>> EnsembleSteps::attention() {
  std::vector<std::vector<float>> mean = models_.front()->attention();
  const float share = 1.0f / static_cast<float>(models_.size());
  for (size_t i = 1; i < models_.size(); ++i) {
    const std::vector<std::vector<float>> more = models_[i]->attention();
    for (size_t row = 0; row < mean.size(); ++row) {
      for (size_t token = 0; token < mean[row].size(); ++token) mean[row][token] += more[row][token];
    }
  }
  for (std::vector<float>& row : mean) {
    for (float& each : row) each *= share;
  }
  return mean;
}

void EnsembleSteps::narrow(const std::vector<int32_t>& tokens) {
  for (const std::shared_ptr<Steps>& model : models_) model->narrow(tokens);
}

Tensor EnsembleSteps::leave() {
  std::exception_ptr error;
  for (const std::shared_ptr<Steps>& model : models_) {
    try {
      model->next({}, {});
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
  return Tensor::empty({0, 0});
}

}  // namespace dragoman
