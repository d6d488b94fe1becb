// Why a request has no result.
#pragma once

#include <stdexcept>

namespace dragoman {

// A logit is NaN or +inf, or all that may be chosen are -inf. Python's error of that name.
struct FloatingPointError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace dragoman
