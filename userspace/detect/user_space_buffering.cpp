// SPDX-License-Identifier: MIT
// user-space-buffering: a process reads everything and keeps it; its receive queues are empty and its memory grows.
//
// Needs: what detect/memory.h needs, --attribution-share or more of the growth with socket reads, and not more than four times
// what was read. A store is none: its clients are answered (heap_growth.h). Where nothing can attribute, 0.25 to 4 bytes kept
// per byte read.
#include "detect/user_space_buffering.h"

#include <fmt/format.h>

#include "base/units.h"
#include "detect/memory.h"

namespace laggard::detect {

void judge_user_space_buffering(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_memory(context, Kind::UserSpaceBuffering, verdicts);
}

void describe_user_space_buffering(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const MemoryGrowth growth = memory_growth_of(context, *context.model.find(members.front().subject.process));
  finding.message =
      growth.attribution != nullptr
          ? fmt::format("memory grows by {}, {} of it with what the program reads from sockets", pace(growth), format_percent(growth.socket_share))
          : fmt::format("memory grows by {} and keeps {:.2f} bytes per byte read", pace(growth), growth.trend.retained_ratio);
  describe_memory(context, growth, finding);
  blame_sockets(context, growth, finding);
  finding.advice = "the program reads faster than it uses what it read: bound its buffer, or let the socket push back";
}

}  // namespace laggard::detect
