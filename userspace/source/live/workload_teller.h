// SPDX-License-Identifier: MIT
// Adds to a tick where the processes with sockets run, once each and whenever it changes: containers, pods, units.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "identify/workload.h"
#include "model/net.h"
#include "source/decode.h"

namespace laggard::source::live {

class WorkloadTeller {
 public:
  static constexpr Duration kMostAtOnce = std::chrono::milliseconds(50);  // CPU of one tick: 1000 new processes and more

  // Of `max_share` of one core it takes no more in the long run: who was not asked about yet comes first, the others are
  // looked at again. Reads below `root`; to be made before privileges are dropped.
  WorkloadTeller(double max_share, bool with_command_lines, const std::string& root = "/", Duration most_at_once = kMostAtOnce);

  // `tick`: all walks of this tick, without its first record.
  void tell(MonoTime now, std::uint32_t epoch, RawTick& tick);

  std::vector<std::string> missing() const { return workloads_.missing(); }

 private:
  struct Told {
    std::uint64_t cgroup_id = 0;
    model::Workload workload;
    MonoTime looked_at;
    MonoTime mentioned;  // by the tick
  };

  identify::Workloads workloads_;
  double max_share_;
  Duration most_at_once_;
  MonoTime before_;   // the latest tick
  Duration credit_;   // CPU time that may be spent now
  std::unordered_map<model::ProcessId, Told> processes_;
  std::unordered_map<std::uint64_t, Told> cgroups_;  // by id, of sockets that nobody is known to hold
};

}  // namespace laggard::source::live
