// SPDX-License-Identifier: MIT
// heap-growth: a process's memory grows and does not stop, and it is not that it keeps what it reads and does not use.
//
// Needs: what detect/memory.h needs, and one of
//   - less than --attribution-share of the growth came with socket reads. A process that answers its clients may be a store whose
//     workers keep what they send (a quarter to four times what is read), or be filling the heap that it took at its start: then it
//     must take new address space for it (where half of that share came with reads: and have gained 8 times --memory-growth), or
//     go on for 8 times --memory-window;
//   - more than four times as much as was read from sockets: each message leaves something behind. Of a process that answers its
//     clients: the same, and it must have gained 8 times --memory-growth, or go on;
//   - a store, which keeps what its clients send and answers them (most turns of reading from accepted connections are followed
//     by a send), or a process that grows with the number of its sockets, at most 256 KiB each: with less than an hour of memory
//     left, and not more than sixty times what it has gained;
//   - it grows with the number of its sockets, and an open connection-leak is about them or about the other ends.
// Where nothing can attribute, only a process that reads no socket at all qualifies.
#include "detect/heap_growth.h"

#include <fmt/format.h>

#include "base/units.h"
#include "detect/memory.h"

namespace laggard::detect {
namespace {

std::string connections_of(const MemoryGrowth& growth)
{
  if (growth.left_open.own > 0)
    return fmt::format("{} connections that it has left open", growth.left_open.own);
  if (growth.left_open.by_clients > 0)
    return fmt::format("{} connections that their clients left open", growth.left_open.by_clients);
  return fmt::format("its connections, {} more", growth.trend.new_sockets);
}

std::string message_of(const MemoryGrowth& growth)
{
  switch (growth.reason) {
    case Reason::PerMessage:
      if (growth.reads_per_second > 0)
        return fmt::format("memory grows by {}, each message leaves {} behind", pace(growth), format_bytes(growth.bytes_per_message()));
      return fmt::format("memory grows by {}, more than four times what it reads", pace(growth));
    case Reason::Store: return fmt::format("memory grows by {}, for it keeps what its clients send", pace(growth));
    case Reason::Connections: return fmt::format("memory grows by {} with {}", pace(growth), connections_of(growth));
    default:
      return fmt::format("memory grows by {}, {} of it with what the program reads from sockets", pace(growth),
                         growth.socket_share > 0 ? format_percent(growth.socket_share) : "none");
  }
}

std::string advice_of(const MemoryGrowth& growth)
{
  switch (growth.reason) {
    case Reason::PerMessage: return "each message leaves more behind than it brought (streams, requests, sessions): end each of them";
    case Reason::Store: return "a store without a bound, or with one above what there is: give it a limit and a policy to evict";
    case Reason::Connections:
      return growth.left_open.by_clients > 0 ? "mend the client, which leaves its connections open, and give this server an idle timeout"
             : growth.left_open.own > 0     ? "each connection costs memory for as long as it is open: close those that are not used"
                                            : "each connection costs memory: bound their number";
    default:
      return fmt::format("a leak or a cache without a bound: 'laggard explain --pid {}' names the code that grows",
                         growth.process->latest().id.tgid);
  }
}

}  // namespace

void judge_heap_growth(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_memory(context, Kind::HeapGrowth, verdicts);
}

void describe_heap_growth(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const MemoryGrowth growth = memory_growth_of(context, *context.model.find(members.front().subject.process));
  finding.message = message_of(growth);
  describe_memory(context, growth, finding);
  if (growth.reason == Reason::PerMessage || growth.reason == Reason::Store)
    blame_sockets(context, growth, finding);
  if (growth.reason == Reason::Otherwise && grows_as_it_reads(growth.trend))
    finding.quality.missing.push_back("it grows by about as much as it reads, in other threads: a collector or a worker may keep that");
  finding.advice = advice_of(growth);
}

}  // namespace laggard::detect
