#include "core/random.h"

#include <cmath>

#include "core/check.h"

namespace dragoman {

Dropout make_dropout(double p, uint64_t seed, uint64_t step, uint32_t id, const int64_t* step_at) {
  CHECK(p >= 0.0 && p < 1.0, "dropout: p must lie in [0, 1), got ", p);
  Dropout dropout{.seed = seed, .step = step, .id = id, .step_at = step_at};
  dropout.threshold = static_cast<uint32_t>(std::min(65535.0, std::round(p * 65536.0)));
  dropout.scale = 65536.0f / static_cast<float>(65536 - dropout.threshold);
  return dropout;
}

}  // namespace dragoman
