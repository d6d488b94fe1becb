// Fresh memory for several threads.
#pragma once

#include <cstdint>

namespace dragoman {

// Gives pages to memory that a kernel is about to write, each thread other huge pages; values stay as they
// are. Threads that first write to one huge page at the same time would each clear it, and all but one in
// vain.
void populate(void* data, int64_t nbytes) noexcept;

}  // namespace dragoman
