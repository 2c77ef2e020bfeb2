// SPDX-License-Identifier: MIT
// Which kernel hook serves which feed. The table is data, the choice is pure, loading is elsewhere (loader.h).
#pragma once

#include <array>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/observer.h"

namespace laggard::source::live {

// A rung: the programs that serve a feed together, best rung first.
struct Candidate {
  std::string_view feed;
  std::string_view hook;                       // as printed: section names of the programs, joined with '+'
  std::array<std::string_view, 2> programs{};  // names in bpf/*.bpf.c; the second may be empty
  std::string_view note;                       // what is weaker about it; empty for the best
  bool optional = false;                       // without this feed laggard sees less, and says so
};

inline constexpr std::array kCandidates = {
    Candidate{"reads", "tp_btf/sock_recv_length", {"reads_tp", ""}, ""},
    Candidate{"reads", "fexit/inet_recvmsg+fexit/inet6_recvmsg", {"reads_inet", "reads_inet6"},
              "kernel before 6.3: two trampolines instead of a tracepoint, more cost per read"},
    Candidate{"states", "tp_btf/inet_sock_set_state+tp_btf/tcp_destroy_sock", {"state_set", "state_destroy"}, ""},
    Candidate{"sweep", "iter/bpf_sk_storage_map", {"sweep", ""}, ""},
    Candidate{"holders", "iter/task_file", {"holders", ""}, ""},
    Candidate{"unaccepted", "iter/tcp", {"unaccepted", ""}, "", true},
    Candidate{"processes", "iter/task", {"processes", ""}, ""},
};

// Why a candidate cannot be used here, one sentence; empty: it loads and attaches.
using Availability = std::map<std::string_view, std::string>;  // by Candidate::hook

struct Plan {
  std::vector<model::HookChoice> choices;    // one per feed, in the order of the table
  std::vector<std::string_view> programs;    // to load
  std::vector<std::string_view> optional;    // feeds
  bool complete() const;                     // every feed that is not optional has a hook
  std::string first_gap() const;             // why not
};

// `forced`: feed -> hook, for tests and for the curious. Pure.
Result<Plan> plan(std::span<const Candidate> table, const Availability& availability,
                  const std::map<std::string, std::string>& forced);

}  // namespace laggard::source::live
