// SPDX-License-Identifier: MIT
// user-space-buffering: a process reads everything and keeps it; its receive queues are empty and its memory grows.
//
// Stage 1 of DESIGN 5.3. Needs: memory that grew by --memory-growth or more over --memory-window (Theil-Sen), with a
// significant trend (Mann-Kendall), that still grows in the last third of the window (a file being loaded, warm-up and a
// garbage collector's saw-tooth do not), and, until page faults attribute the growth, 0.25 to 4 bytes kept per byte read:
// outside of that the growth has no visible relation to what is read, and we stay silent.
#include "detect/user_space_buffering.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

constexpr double kMinRatio = 0.25, kMaxRatio = 4;  // DESIGN 5.3; the measured hoarders keep 0.98 to 2.1

model::MemoryTrend trend_of(const Context& context, const model::Process& process)
{
  return model::memory_trend(process, context.model.options());
}

std::uint64_t private_bytes(const model::ProcessSample& sample) { return sample.anon_bytes + sample.swap_bytes; }

// Seconds until the host has no memory left at this pace; absent where unknown.
std::optional<double> seconds_to_limit(const Context& context, const model::MemoryTrend& trend)
{
  const std::uint64_t available = context.model.last_tick_facts().host_available_bytes;
  if (available == 0 || trend.bytes_per_second <= 0)
    return std::nullopt;
  return static_cast<double>(available) / trend.bytes_per_second;
}

struct Source {
  const model::Connection* connection;
  std::uint64_t bytes;
};

// The connections that the process read most from, most first.
std::vector<Source> sources_of(const Context& context, std::uint32_t tgid)
{
  std::vector<Source> sources;
  for (const auto& [cookie, connection] : context.model.connections())
    if (connection.latest().reader_tgid == tgid && connection.recent_read_bytes() > 0)
      sources.push_back({&connection, connection.recent_read_bytes()});
  std::ranges::sort(sources, std::greater{}, &Source::bytes);
  return sources;
}

}  // namespace

void judge_user_space_buffering(const Context& context, std::vector<Verdict>& verdicts)
{
  for (const auto& [id, process] : context.model.processes()) {
    const model::MemoryTrend trend = trend_of(context, process);
    const bool open = context.is_open(Kind::UserSpaceBuffering, process_member(id.tgid));
    const double needed = static_cast<double>(context.thresholds.memory_growth_bytes) / (open ? 2 : 1);
    if (!trend.covers_window || trend.growth_bytes < needed || !trend.significant || !trend.goes_on)
      continue;
    if (trend.retained_ratio < kMinRatio || trend.retained_ratio > kMaxRatio)
      continue;
    const std::optional<double> eta = seconds_to_limit(context, trend);
    verdicts.push_back({
        .subject = process_subject(Kind::UserSpaceBuffering, id),
        .since = process.history().front().time,
        .since_is_lower_bound = process.history().front().time == context.model.started(),
        .ripe = context.now(),
        .weight = trend.bytes_per_second,
        .severity = eta && *eta < 600 ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_user_space_buffering(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Process& process = *context.model.find(members.front().subject.process);
  const model::MemoryTrend trend = trend_of(context, process);
  const std::vector<Source> sources = sources_of(context, process.latest().id.tgid);
  const std::optional<double> eta = seconds_to_limit(context, trend);

  finding.message = fmt::format("memory grows by {} and keeps {:.2f} bytes per byte read",
                                format_rate(trend.bytes_per_second), trend.retained_ratio);
  finding.details.push_back(fmt::format("memory: {} private, {} in the last {}, {}",
                                        format_bytes(static_cast<double>(private_bytes(process.latest()))),
                                        format_bytes(trend.growth_bytes) + " more",
                                        format_duration(context.thresholds.memory_window),
                                        format_rate(trend.bytes_per_second)));
  finding.details.push_back(fmt::format("read {} from sockets in that time: {:.2f} bytes kept per byte read",
                                        format_bytes(static_cast<double>(trend.read_bytes)), trend.retained_ratio));
  if (eta && *eta < 86400)
    finding.details.push_back(fmt::format("at this pace the host's memory lasts {}",
                                          format_duration(std::chrono::seconds(static_cast<long>(*eta)))));
  double total = 0;
  for (const Source& source : sources)
    total += static_cast<double>(source.bytes);
  for (const Source& source : sources) {
    if (finding.examples.size() == 5)
      break;
    finding.examples.push_back(source.connection->latest().tuple);
    finding.details.push_back(fmt::format("{} of the bytes came over {}", format_percent(static_cast<double>(source.bytes) / total),
                                          to_string(source.connection->latest().tuple)));
  }
  finding.advice = "the program reads faster than it uses what it read: bound its buffer, or let the socket push back";

  auto& evidence = finding.evidence;
  evidence.push_back({"memory_bytes", private_bytes(process.latest())});
  evidence.push_back({"memory_growth_bytes", static_cast<std::uint64_t>(trend.growth_bytes)});
  evidence.push_back({"memory_growth_bytes_per_second", trend.bytes_per_second});
  evidence.push_back({"read_bytes", trend.read_bytes});
  evidence.push_back({"retained_ratio", trend.retained_ratio});
  if (eta)
    evidence.push_back({"memory_limit_eta_seconds", *eta});
  if (process.latest().error_bytes > 0)
    evidence.push_back({"memory_error_bytes", process.latest().error_bytes});
  finding.thresholds.push_back({"memory_growth_bytes", context.thresholds.memory_growth_bytes});
  finding.thresholds.push_back({"memory_window_seconds", seconds(context.thresholds.memory_window)});
  finding.thresholds.push_back({"retained_ratio_min", kMinRatio});
  finding.thresholds.push_back({"retained_ratio_max", kMaxRatio});
  finding.quality.missing.push_back("growth is correlated with reads, not attributed to them: no page faults were traced");
}

}  // namespace laggard::detect
