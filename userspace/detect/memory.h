// SPDX-License-Identifier: MIT
// Memory that grows and does not stop, and with what (DESIGN 5.3): what user-space-buffering and heap-growth share.
//
// Suspect: growth of --memory-growth or more over --memory-window (Theil-Sen), or over 3, 10 or 50 times as long and then of 2 % of
// the process, with a significant trend (Mann-Kendall), that still goes on in the last third of the window, and above what the
// process has had in the ten minutes before (over the longer windows: ever). A file being loaded, warm-up, a garbage collector's
// saw-tooth and a chunk that is filled and flushed do not. The process uses sockets, or has: of others there is no connection to
// name.
//
// Attributed: the page accounting of some seconds says which share of the growth came with reads of which socket. Where there
// was no growth meanwhile it goes on until there is, for one window: what grows in steps rests. The trend says that memory
// grows, the attribution only why.
#pragma once

#include <optional>
#include <string>

#include "detect/rule.h"

namespace laggard::detect {

// Until there is no memory left: below the cgroup's limit where the attribution saw one, else on the host.
struct Forecast {
  std::optional<double> eta_seconds;  // absent: unknown, or it does not grow
  double room_bytes = 0;              // until then
  std::uint64_t limit_bytes = 0;      // of the cgroup; 0: the host's memory is the limit
};
Forecast forecast(const model::Model& model, const model::Process& process, double bytes_per_second);

// With what memory grows.
enum class Reason {
  Undecided,    // it cannot be told, or it did not go on: no finding
  Untold,       // nobody knows yet: to be attributed
  KeepsReads,   // with what is read from sockets, and no more than that
  PerMessage,   // with what is read from sockets, but more than that: each message leaves something behind
  Store,        // with what its clients send, and it answers them: that is what it is for
  Connections,  // with their number
  Otherwise,    // without sockets
};

// The measured hoarders keep 0.98 to 2.1 bytes per byte read (DESIGN 5.3). Above, it is something else that is kept; below, and
// where nothing can attribute, the growth has no visible relation to what is read.
inline constexpr double kMinRatio = 0.25, kMaxRatio = 4;

// It grows by about as much as it reads.
inline bool grows_as_it_reads(const model::MemoryTrend& trend) { return trend.retained_ratio >= kMinRatio && trend.retained_ratio <= kMaxRatio; }

struct LeftOpen {
  std::uint64_t own = 0;
  std::uint64_t by_clients = 0;
  std::uint64_t all() const { return own + by_clients; }
};

struct MemoryGrowth {
  const model::Process* process = nullptr;
  model::MemoryTrend trend;                         // over the shortest window that shows the growth
  const model::Attribution* attribution = nullptr;  // null: nothing here can attribute, only correlate
  double socket_share = 0;                          // of the growth, by attribution
  Forecast forecast;
  Reason reason = Reason::Undecided;
  double read_bytes_per_second = 0;
  double reads_per_second = 0;                      // 0: not known
  // Of an open connection-leak: connections that the process has left open itself, and those that a client on this host has.
  LeftOpen left_open;

  double bytes_per_message() const { return reads_per_second > 0 ? trend.bytes_per_second / reads_per_second : 0; }
};

// Verdicts of `kind`: user-space-buffering or heap-growth. Suspects that still have to be attributed come along marked as
// such, once for both kinds.
void judge_memory(const Context& context, Kind kind, std::vector<Verdict>& verdicts);
MemoryGrowth memory_growth_of(const Context& context, const model::Process& process);

// It grows as a suspect's does, over the shortest window.
bool is_filling(const Context& context, model::ProcessId id);

// The lines, evidence and thresholds that both kinds carry.
void describe_memory(const Context& context, const MemoryGrowth& growth, Finding& finding);
// "12 MB/s", "1.0 MiB a minute"
std::string pace(const MemoryGrowth& growth);
// Names the sockets that the growth came with as examples, worst first.
void blame_sockets(const Context& context, const MemoryGrowth& growth, Finding& finding);

}  // namespace laggard::detect
