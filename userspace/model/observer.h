// SPDX-License-Identifier: MIT
// Who looked, and with which eyes: travels with every output and every recording.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"

namespace laggard::model {

// One feed and how it is measured here.
struct HookChoice {
  std::string feed;  // "reads"
  std::string hook;  // "tp_btf/sock_recv_length"; empty: the feed is off
  std::string note;  // why a weaker rung, or why off; empty for the best
};

// A BPF program of ours: totals since it was loaded, counted while sysctl kernel.bpf_stats_enabled is 1.
struct ProgramRuns {
  std::string name;
  std::uint64_t runs = 0;
  Duration run_time{};
};

struct Observer {
  std::string version;
  std::string host_name;
  std::string node_name;  // Kubernetes; empty elsewhere
  std::string kernel;     // uname -r of the observed host
  std::vector<HookChoice> hooks;
  std::vector<std::string> missing;  // what cannot be seen, one clause each
  std::string replayed_from;         // file name; empty: live

  std::string hooks_text() const;  // "reads=tp_btf/sock_recv_length states=..."
};

}  // namespace laggard::model
