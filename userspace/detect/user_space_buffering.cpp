// SPDX-License-Identifier: MIT
// user-space-buffering: a process reads everything and keeps it; its receive queues are empty and its memory grows.
//
// Needs: what detect/memory.h needs, and --attribution-share or more of the growth with socket reads. Where nothing can
// attribute, 0.25 to 4 bytes kept per byte read.
#include "detect/user_space_buffering.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "detect/memory.h"

namespace laggard::detect {
namespace {

// Bytes kept per byte read. A buffer that doubles keeps two; what keeps more keeps something else.
constexpr double kKeepsWhatItReads = 4;

struct Blamed {
  std::uint64_t cookie;
  std::optional<model::Tuple> socket;  // absent: closed before we could look
  std::uint64_t bytes;
};

// The connections to blame, worst first: by attributed growth, else by bytes read.
std::vector<Blamed> blamed_by(const Context& context, const MemoryGrowth& growth)
{
  std::vector<Blamed> blamed;
  if (growth.attribution != nullptr) {
    for (const model::Attribution::Share& share : growth.attribution->sockets)
      blamed.push_back({share.cookie, share.tuple, share.kernel_bytes + share.user_bytes});
  } else {
    for (const auto& [cookie, connection] : context.model.connections())
      if (connection.latest().reader_tgid == growth.process->latest().id.tgid && connection.recent_read_bytes() > 0)
        blamed.push_back({cookie, connection.latest().tuple, connection.recent_read_bytes()});
  }
  std::ranges::sort(blamed, [](const Blamed& a, const Blamed& b) { return a.bytes != b.bytes ? a.bytes > b.bytes : a.cookie < b.cookie; });
  return blamed;
}

}  // namespace

void judge_user_space_buffering(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_memory(context, Kind::UserSpaceBuffering, verdicts);
}

void describe_user_space_buffering(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const MemoryGrowth growth = memory_growth_of(context, *context.model.find(members.front().subject.process));
  const model::MemoryTrend& trend = growth.trend;
  finding.message = growth.attribution != nullptr
                        ? fmt::format("memory grows by {}, {} of it with what the program reads from sockets",
                                      format_rate(trend.bytes_per_second), format_percent(growth.socket_share))
                        : fmt::format("memory grows by {} and keeps {:.2f} bytes per byte read",
                                      format_rate(trend.bytes_per_second), trend.retained_ratio);
  describe_memory(context, growth, finding);

  const std::vector<Blamed> blamed = blamed_by(context, growth);
  double total = 0;
  for (const Blamed& one : blamed)
    total += static_cast<double>(one.bytes);
  for (const Blamed& one : blamed) {
    // A page that some other socket got by chance accuses nobody.
    if (finding.examples.size() == kMaxExamples || one.bytes < blamed.front().bytes / 10)
      break;
    if (!one.socket)
      continue;
    finding.examples.push_back(*one.socket);
    finding.details.push_back(fmt::format("{} of {} came over {}", format_percent(static_cast<double>(one.bytes) / total),
                                          growth.attribution != nullptr ? "that" : "the bytes", to_string(*one.socket)));
  }
  // The kernel's own copies cannot be mistaken; memory touched later can be a leak of the same thread.
  if (growth.attribution != nullptr && growth.attribution->socket_user_bytes() > growth.attribution->socket_kernel_bytes())
    finding.quality.missing.push_back(fmt::format("a thread that reads and also leaks looks the same: 'laggard explain --pid "
                                                  "{}' shows the code", members.front().subject.process.tgid));
  finding.advice = trend.retained_ratio <= kKeepsWhatItReads
                       ? "the program reads faster than it uses what it read: bound its buffer, or let the socket push back"
                       : "each message leaves more behind than it brought (streams, requests, sessions): end each of them";
}

}  // namespace laggard::detect
