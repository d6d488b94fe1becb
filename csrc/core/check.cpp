#include "core/check.h"

#include <cinttypes>
#include <cstdio>

namespace dragoman {

OutOfMemory::OutOfMemory(const char* text) noexcept {
  std::snprintf(text_, sizeof(text_), "%s", text);
}

OutOfMemory::OutOfMemory(const std::string& device, int64_t asked, int64_t in_use) noexcept {
  std::snprintf(text_, sizeof(text_),
                "out of memory on %s: asked for %" PRId64 " bytes, with %" PRId64 " bytes in use",
                device.c_str(), asked, in_use);
}

}  // namespace dragoman
