// How many CPUs this process may keep busy.
#pragma once

#include <string>

namespace dragoman {

// The lesser of the CPUs in the affinity mask and the CPU time that control groups (version 1 or 2) grant,
// rounded up. The groups' files are read below `root`.
int cpu_count(const std::string& root = "/");

}  // namespace dragoman
