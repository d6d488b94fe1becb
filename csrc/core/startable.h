// Whether the system can start more threads.
#pragma once

namespace dragoman {

constexpr int most_threads = 1024;  // of one pool

// How many of `wanted` threads, at most most_threads, can be started now, with some memory to spare. For
// libraries that end the process, or fail for good, where they cannot start a thread: libgomp and rayon.
int startable(int wanted) noexcept;

}  // namespace dragoman
