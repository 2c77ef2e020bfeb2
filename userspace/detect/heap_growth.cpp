// SPDX-License-Identifier: MIT
// heap-growth: a process's memory grows and does not stop, and less than --attribution-share of it comes with socket reads.
//
// Needs: what detect/memory.h needs. Where nothing can attribute, only a process that reads no socket at all qualifies.
#include "detect/heap_growth.h"

#include <fmt/format.h>

#include "base/units.h"
#include "detect/memory.h"

namespace laggard::detect {

void judge_heap_growth(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_memory(context, Kind::HeapGrowth, verdicts);
}

void describe_heap_growth(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const MemoryGrowth growth = memory_growth_of(context, *context.model.find(members.front().subject.process));
  finding.message = fmt::format("memory grows by {}, {} of it with what the program reads from sockets",
                                format_rate(growth.trend.bytes_per_second),
                                growth.socket_share > 0 ? format_percent(growth.socket_share) : "none");
  describe_memory(context, growth, finding);
  finding.advice = fmt::format("a leak or a cache without a bound: 'laggard explain --pid {}' names the code that grows",
                               members.front().subject.process.tgid);
}

}  // namespace laggard::detect
