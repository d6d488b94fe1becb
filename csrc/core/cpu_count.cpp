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

// "quota period" in version 2's one file, or in two files of version 1; no limit where it says max or -1.
double read_quota(const std::string& group) {
  double quota = 0.0, period = 0.0;
  std::ifstream both(group + "/cpu.max");
  if (!(both >> quota >> period)) {
    std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(group + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0.0 && period > 0.0 ? quota / period : unlimited;
}

// A group is limited by all that stand above it, too. In a container the path may be the host's and lead
// nowhere: what counts is then the root that is mounted.
double least_quota(const std::string& mount, std::string path) {
  double least = unlimited;
  while (!path.empty()) {
    least = std::min(least, read_quota(mount + path));
    path.resize(path.rfind('/'));
  }
  return std::min(least, read_quota(mount));
}

// Lines of /proc/self/cgroup: "hierarchy:controllers:/path", the controllers empty in version 2.
double group_quota(const std::string& root) {
  const std::string groups = root + "/sys/fs/cgroup";
  double least = unlimited;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, least_quota(groups, path));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      least = std::min(least, least_quota(groups + "/" + controllers, path));
      least = std::min(least, least_quota(groups + "/cpu", path));
    }
  }
  return least;
}

int affinity_count() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // more CPUs than the set has room for
}

}  // namespace

int cpu_count(const std::string& root) {
  const double quota = std::ceil(group_quota(root));
  return std::max(1, static_cast<int>(std::min<double>(affinity_count(), quota)));
}

}  // namespace dragoman
