// SPDX-License-Identifier: MIT
// In which container, pod or systemd unit a process runs, and what it is called. Nothing but files of this machine: no
// container runtime and no API server is asked, and no capability is needed (see missing()).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "identify/cgroup_path.h"
#include "identify/cgroup_tree.h"
#include "identify/clock.h"
#include "identify/directory.h"
#include "identify/pod_names.h"
#include "identify/recent.h"
#include "model/workload.h"

namespace laggard::identify {

using model::Workload;

class Workloads {
 public:
  static constexpr std::size_t kMaxProcesses = 1U << 13;
  // A process may be moved into its container after its start, and log files come later than processes.
  static constexpr Duration kLookAgain = std::chrono::seconds(10);
  static constexpr Duration kLookAgainForMore = std::chrono::seconds(1);

  // Reads proc, sys/fs/cgroup and var/log below `root`. To be made before privileges are dropped: what is open stays
  // so.
  explicit Workloads(const std::string& root = "/", bool with_command_lines = false, Clock clock = monotonic_now);

  // tgid as in the initial pid namespace, 0 = unknown; start_ns since boot, 0 = unknown: then nothing is remembered of
  // it; cgroup_id of v2, 0 = unknown. Of what has exited it tells what it was when it was last asked for, else what the
  // cgroup is. Cheap for what was asked for within the last second: once per process and tick will do.
  Workload of(std::uint32_t tgid, std::uint64_t start_ns, std::uint64_t cgroup_id);

  // What it cannot see here, one clause each. Grows.
  std::vector<std::string> missing() const;

 private:
  using Key = std::pair<std::uint32_t, std::uint64_t>;
  struct Seen {
    Workload workload;
    std::uint64_t cgroup_id = 0;
    MonoTime look_again;
  };
  enum class Life : std::uint8_t { Alive, Exiting, Gone, Unknown };
  struct Look {
    Life life = Life::Unknown;
    ProcessCgroups cgroups;
    std::string command_line;
  };

  Look look_at(std::uint32_t tgid, std::uint64_t start_ns) const;
  Workload named(const ContainerRef& ref, const Workload* before);

  Clock clock_;
  Fd proc_;
  bool with_command_lines_ = false;
  bool sees_host_pids_ = true;
  CgroupTree tree_;
  PodNames names_;
  bool nameless_pod_ = false;
  Recent<Key, Seen> seen_{kMaxProcesses};
};

}  // namespace laggard::identify
