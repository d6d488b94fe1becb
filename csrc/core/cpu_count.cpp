#include "core/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <thread>

namespace dragoman {

namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

// Version 2 has "quota period" in one file, version 1 has two files. "max" and -1 mean no limit.
double read_quota(const std::string& group) {
  double quota = 0.0, period = 0.0;
  std::ifstream both(group + "/cpu.max");
  if (!(both >> quota >> period)) {
    std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(group + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0.0 && period > 0.0 ? quota / period : unlimited;
}

// The groups above a group limit it too. In a container the path may be the host's and not exist; then the
// root that is mounted counts.
double minimum_quota(const std::string& mount, std::string path) {
  double minimum = unlimited;
  while (!path.empty()) {
    minimum = std::min(minimum, read_quota(mount + path));
    path.resize(path.rfind('/'));
  }
  return std::min(minimum, read_quota(mount));
}

// A line of /proc/self/cgroup is "hierarchy:controllers:/path"; in version 2 the controllers are empty.
double group_quota(const std::string& root) {
  const std::string groups = root + "/sys/fs/cgroup";
  double minimum = unlimited;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      minimum = std::min(minimum, minimum_quota(groups, path));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      minimum = std::min(minimum, minimum_quota(groups + "/" + controllers, path));
      minimum = std::min(minimum, minimum_quota(groups + "/cpu", path));
    }
  }
  return minimum;
}

int affinity_count() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(
      std::thread::hardware_concurrency());  // the set is too small for the machine's CPUs
}

}  // namespace

int cpu_count(const std::string& root) {
  const double quota = std::ceil(group_quota(root));
  return std::max(1, static_cast<int>(std::min<double>(affinity_count(), quota)));
}

}  // namespace dragoman
