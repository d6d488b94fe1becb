// CHECK(condition, parts...) throws the error that a user sees. The parts, joined, name the op, the argument,
// what was expected and what it got.
#pragma once

#include <cstdint>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace dragoman {

struct ValueError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

struct TypeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The text lies in the exception itself: when this is thrown, there may be no memory for another.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(const char* text) noexcept;
  OutOfMemory(const std::string& device, int64_t asked, int64_t in_use) noexcept;
  const char* what() const noexcept override { return text_; }

 private:
  char text_[160];
};

template <class Part>
void append(std::ostream& text, const Part& part) {
  text << part;
}
void append(std::ostream& text, const std::vector<int64_t>& shape);  // (2, 3)

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (append(text, parts), ...);
  return text.str();
}

}  // namespace dragoman

#define CHECK(condition, ...)                                                        \
  do {                                                                               \
    if (!(condition)) throw ::dragoman::ValueError(::dragoman::concat(__VA_ARGS__)); \
  } while (false)

#define CHECK_TYPE(condition, ...)                                                  \
  do {                                                                              \
    if (!(condition)) throw ::dragoman::TypeError(::dragoman::concat(__VA_ARGS__)); \
  } while (false)
