// SPDX-License-Identifier: MIT
// What this host and this process allow us, in sentences.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace laggard::source::live {

struct HostFacts {
  std::string kernel;         // uname -r
  std::string architecture;
  bool has_btf = false;
  std::string lockdown;       // "none", "integrity", "confidentiality"; empty: unknown
  bool has_bpf = false;       // CAP_BPF or CAP_SYS_ADMIN, effective
  bool has_perfmon = false;   // CAP_PERFMON or CAP_SYS_ADMIN, effective
  bool has_sys_ptrace = false;
  bool has_dac_read_search = false;
  bool has_sys_resource = false;
  bool initial_pid_ns = true;
  bool initial_user_ns = true;
  int unprivileged_bpf_disabled = -1;  // -1: unknown
  bool has_mptcp = false;     // net.mptcp.enabled
  int perf_event_paranoid = -1;
  std::uint64_t memlock_bytes = 0;     // RLIMIT_MEMLOCK, soft
  std::uint32_t uid = 0;
  std::vector<std::string> capabilities;  // effective, "bpf", "perfmon", ...
};
HostFacts host_facts();

bool has_sys_admin();  // effective

// The one reason that makes loading hopeless, with the next step; empty: try.
std::string obstacle_to_loading();

// Who this process will be after drop_privileges(), if that is somebody else.
std::optional<std::uint32_t> user_after_dropping();
// Gives up every capability but those to `keep` (CAP_* numbers; what is not there is not missed), and becomes nobody where
// it is root with CAP_SETUID and CAP_SETGID: a container's root without them stays root, with no capability. For good.
Result<void> drop_privileges(std::span<const int> keep);

}  // namespace laggard::source::live
