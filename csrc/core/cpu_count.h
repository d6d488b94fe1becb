// The number of CPUs that this process may keep busy.
#pragma once

#include <string>

namespace dragoman {

// The minimum of the CPUs in the affinity mask and the CPU time that control groups (version 1 or 2) grant,
// rounded up. The files of the groups are read below `root`.
int cpu_count(const std::string& root = "/");

}  // namespace dragoman
