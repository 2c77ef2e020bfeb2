// SPDX-License-Identifier: MIT
// Which kernel hook serves which feed. The table is data, the choice is pure, loading is elsewhere (loader.h).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/observer.h"

namespace laggard::source::live {

enum class Use : std::uint8_t {
  Always,    // laggard does not start without
  Optional,  // without it laggard sees less, and says so
  OnDemand,  // loaded at start, attached for seconds when it is needed; optional too
};

// A rung: the programs that serve a feed together, best rung first.
struct Candidate {
  std::string_view feed;
  std::string_view hook;                       // as printed: section names of the programs, joined with '+'
  std::array<std::string_view, 4> programs{};  // names in bpf/*.bpf.c; those that are not needed are empty
  std::string_view note;                       // what is weaker about it; empty for the best
  Use use = Use::Always;
};

inline constexpr std::array kCandidates = {
    Candidate{"reads", "tp_btf/sock_recv_length", {"reads_tp", ""}, ""},
    Candidate{"reads", "fexit/inet_recvmsg+fexit/inet6_recvmsg", {"reads_inet", "reads_inet6"},
              "kernel before 6.3: two trampolines instead of a tracepoint, more cost per read"},
    Candidate{"states", "tp_btf/inet_sock_set_state+tp_btf/tcp_destroy_sock", {"state_set", "state_destroy"}, ""},
    Candidate{"sweep", "iter/bpf_sk_storage_map", {"sweep", ""}, ""},
    Candidate{"sweep", "iter/task_file+iter/tcp", {"sweep_files", "sweep_waiting"},
              "kernel without iterators over socket storage: a sweep costs by open files, and of an accept queue it shows 16"},
    Candidate{"holders", "iter/task_file", {"holders", ""}, ""},
    Candidate{"unaccepted", "iter/tcp", {"unaccepted", ""}, "", Use::Optional},
    Candidate{"processes", "iter/task", {"processes", ""}, ""},
    Candidate{"growth", "tp_btf/rss_stat+tp_btf/sock_recv_length+tp_btf/tcp_destroy_sock", {"grow", "growth_reads_tp", "growth_ends"}, "", Use::OnDemand},
    Candidate{"growth", "tp_btf/rss_stat+fexit/inet_recvmsg+fexit/inet6_recvmsg+tp_btf/tcp_destroy_sock",
              {"grow", "growth_reads_inet", "growth_reads_inet6", "growth_ends"}, "", Use::OnDemand},
};

// Why a candidate cannot be used here, one sentence; empty: it loads and attaches.
using Availability = std::map<std::string_view, std::string>;  // by Candidate::hook

struct Plan {
  std::vector<model::HookChoice> choices;    // one per feed, in the order of the table
  std::vector<std::string_view> programs;    // to load and attach
  std::vector<std::string_view> on_demand;   // to load, to be attached later
  std::string gap;                           // why laggard cannot start: a feed has no hook; empty: it can
  bool has(std::string_view feed) const;
};

// `forced`: feed -> hook, for tests and for the curious. Pure.
Result<Plan> plan(std::span<const Candidate> table, const Availability& availability,
                  const std::map<std::string, std::string>& forced);

}  // namespace laggard::source::live
