// SPDX-License-Identifier: MIT
// Memory that grows and does not stop, and with what (DESIGN 5.3): what user-space-buffering and heap-growth share.
//
// Suspect: growth of --memory-growth or more over --memory-window (Theil-Sen), with a significant trend (Mann-Kendall),
// that still goes on in the last third of the window: a file being loaded, warm-up and a garbage collector's saw-tooth do
// not. The process uses sockets: of others there is no connection to name. Attributed: the page accounting of some seconds
// says which share of the growth came with reads of which socket; the process must have gone on growing meanwhile.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "detect/rule.h"

namespace laggard::detect {

// Until there is no memory left: below the cgroup's limit where the attribution saw one, else on the host.
struct Forecast {
  std::optional<double> eta_seconds;  // absent: unknown, or it does not grow
  std::uint64_t limit_bytes = 0;      // of the cgroup; 0: the host's memory is the limit
};
Forecast forecast(const model::Model& model, const model::Process& process, double bytes_per_second);

struct MemoryGrowth {
  const model::Process* process = nullptr;
  model::MemoryTrend trend;
  const model::Attribution* attribution = nullptr;  // null: nothing here can attribute, only correlate
  double socket_share = 0;                          // of the growth, by attribution
  Forecast forecast;
};

// Verdicts of `kind`: those whose growth is (user-space-buffering) or is not (heap-growth) due to socket reads. Suspects
// that still have to be attributed come along marked as such, once for both kinds.
void judge_memory(const Context& context, Kind kind, std::vector<Verdict>& verdicts);
MemoryGrowth memory_growth_of(const Context& context, const model::Process& process);

// Whose memory grows as a suspect's does; each is judged once.
class FillingProcesses {
 public:
  explicit FillingProcesses(const Context& context) : context_(context) {}
  bool contains(model::ProcessId id);

 private:
  const Context& context_;
  std::map<model::ProcessId, bool> known_;
};

// The lines, evidence and thresholds that both kinds carry.
void describe_memory(const Context& context, const MemoryGrowth& growth, Finding& finding);

}  // namespace laggard::detect
