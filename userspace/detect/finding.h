// SPDX-License-Identifier: MIT
// What laggard concludes. Everything a sink may print is in here; a sink looks nothing up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/time.h"
#include "model/net.h"
#include "model/workload.h"

namespace laggard::detect {

// name in code, kebab-case name in every output; never renamed
#define LAGGARD_FINDING_KINDS(X)              \
  X(SlowReader, "slow-reader")                \
  X(StalledReader, "stalled-reader")          \
  X(UserSpaceBuffering, "user-space-buffering") \
  X(CloseWait, "close-wait")                  \
  X(FinWait2, "fin-wait-2")                   \
  X(UdpReceiveOverflow, "udp-receive-overflow") \
  X(RemoteSlowReader, "remote-slow-reader")   \
  X(AcceptBacklog, "accept-backlog")          \
  X(ConnectionLeak, "connection-leak")        \
  X(HeapGrowth, "heap-growth")                \
  X(UnpairedOperations, "unpaired-operations") \
  X(DeadPeer, "dead-peer")

enum class Kind : std::uint8_t {
#define LAGGARD_KIND_ENUM(name, text) name,
  LAGGARD_FINDING_KINDS(LAGGARD_KIND_ENUM)
#undef LAGGARD_KIND_ENUM
};

enum class Severity : std::uint8_t { Warning, Critical };
enum class Phase : std::uint8_t { Opened, Updated, Resolved };
enum class Resolution : std::uint8_t { Drained, Closed, ProcessExited, Subsided, ObserverStopped, LostSight, Regrouped };

std::string_view to_string(Kind kind);              // "slow-reader"
std::string title(Kind kind);                       // "SLOW READER"
std::string_view to_string(Severity severity);      // "warning"
std::string_view to_string(Phase phase);            // "opened"
std::string_view to_string(Resolution resolution);  // "process_exited"
std::optional<Kind> parse_kind(std::string_view text);
std::string known_kinds();                          // "slow-reader stalled-reader ..."

// One number with its unit in the name, as SCHEMA.md lists them: {"recv_queue_bytes", 24680}.
using Value = std::variant<std::uint64_t, double, bool, std::string>;
struct Field {
  std::string_view name;  // a literal, without the "laggard.evidence." or "laggard.threshold." prefix
  Value value;
};

inline constexpr std::size_t kMaxExamples = 5;  // sockets that a finding names

struct ProcessRef {
  model::ProcessId id;
  std::string comm;  // any bytes
  std::uint32_t vpid = 0;
  std::optional<std::uint32_t> uid;
  WallTime creation_time;  // epoch = unknown
  model::Workload workload;  // where it runs; where nobody knows the process, where the socket is from
};

// The worst member of the group, or the only one.
struct SocketRef {
  model::Transport transport = model::Transport::Tcp;
  model::TcpState state = model::TcpState::Close;
  model::Tuple tuple;
  bool accepted = false;   // the local end is the server
  bool connected = false;  // the local end is the client
  std::uint64_t cookie = 0;
  std::uint32_t netns = 0;
  std::uint64_t cgroup_id = 0;
  std::uint64_t inode = 0;
};

// How well we could see.
struct Quality {
  std::string hooks;                 // "reads=tp_btf/sock_recv_length sweep=iter/bpf_sk_storage_map"
  std::uint64_t lost_records = 0;    // while the condition lasted
  Duration unobserved{};             // of that time nothing was looked at
  std::vector<std::string> missing;  // what could not be seen, one clause each
};

struct Finding {
  std::uint64_t id = 0;  // the same on every line of one finding
  Kind kind = Kind::SlowReader;
  Severity severity = Severity::Warning;
  Phase phase = Phase::Opened;
  std::uint32_t sequence = 1;
  WallTime time;        // of this line
  WallTime start_time;  // when the condition began, not when it was reported
  bool start_is_lower_bound = false;
  Duration duration{};  // of the condition so far
  std::optional<Resolution> resolution;

  ProcessRef process;                   // tgid 0: nobody we know
  std::vector<std::uint32_t> holders;   // all that hold the socket, process.id first; empty where not more than one
  std::optional<SocketRef> socket;
  std::uint64_t count = 1;              // members of the group
  bool is_group = false;
  bool is_whole = false;                // of many alike: several subjects in one (groups.h)
  std::uint64_t processes = 1;          // of a whole
  std::uint64_t endpoints = 1;
  std::vector<model::Tuple> examples;   // worst first, at most 5; groups, and of memory those that it came with
  std::vector<std::string> example_processes;  // beside examples, of a whole of several processes: "worker[4121]"

  // The incident that this finding is part of (detect/incidents.h): ids of findings that are open now.
  std::optional<std::uint64_t> symptom_of;    // its cause
  std::string symptom_of_text;                // "STALLED READER redis-cli[411]"
  std::optional<std::uint64_t> peer_finding;  // about the other end of the connection
  std::vector<std::uint64_t> symptoms;        // what follows from it
  bool has_new_symptoms_only = false;         // an update that says nothing else

  std::string message;               // one sentence without subject and without full stop: "reads 1.0 KiB every ..."
  std::vector<std::string> details;  // evidence for people, a line of at most 96 columns each
  std::string advice;                // one sentence: what to do next
  std::vector<Field> evidence;
  std::vector<Field> thresholds;
  Quality quality;
};

}  // namespace laggard::detect
