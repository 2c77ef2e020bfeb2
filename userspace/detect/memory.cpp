// SPDX-License-Identifier: MIT
#include "detect/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

// Where nothing can attribute: the measured hoarders keep 0.98 to 2.1 bytes per byte read (DESIGN 5.3). Outside of this
// the growth has no visible relation to what is read.
constexpr double kMinRatio = 0.25, kMaxRatio = 4;
// Net growth during the attribution, of what the trend promised for it: less, and it was about to stop.
constexpr double kStillGrowing = 0.25;
constexpr double kCriticalEtaSeconds = 600;

enum class Cause { Unknown, ToBeAttributed, Sockets, Other };

Cause cause_of(const Context& context, const MemoryGrowth& growth, bool open)
{
  const model::Attribution* attribution = growth.attribution;
  if (!context.model.last_tick_facts().can_attribute && attribution == nullptr) {
    if (growth.trend.read_bytes == 0)
      return Cause::Other;
    return growth.trend.retained_ratio >= kMinRatio && growth.trend.retained_ratio <= kMaxRatio ? Cause::Sockets
                                                                                                 : Cause::Unknown;
  }
  // A whole window before it is looked at again: with less, saw-teeth are looked at until a look meets nothing but a rise.
  if (attribution == nullptr || (!open && context.now() - attribution->end > context.thresholds.memory_window))
    return Cause::ToBeAttributed;
  const double promised = growth.trend.bytes_per_second * seconds(attribution->end - attribution->begin);
  if (!open && (!attribution->complete || attribution->net_bytes < kStillGrowing * promised))
    return Cause::Unknown;
  return growth.socket_share >= context.thresholds.attribution_share ? Cause::Sockets : Cause::Other;
}

}  // namespace

Forecast forecast(const model::Model& model, const model::Process& process, double bytes_per_second)
{
  Forecast result;
  if (bytes_per_second <= 0)
    return result;
  auto room = static_cast<double>(model.last_tick_facts().host_available_bytes);
  if (const auto& attribution = process.attribution(); attribution && attribution->limit_bytes > 0) {
    const double left = static_cast<double>(attribution->headroom_bytes) - process.grown_since_attribution();
    const double below_limit = std::max(0.0, left);
    if (room == 0 || below_limit < room) {
      room = below_limit;
      result.limit_bytes = attribution->limit_bytes;
    }
  }
  if (room > 0 || result.limit_bytes > 0)
    result.eta_seconds = room / bytes_per_second;
  return result;
}

MemoryGrowth memory_growth_of(const Context& context, const model::Process& process)
{
  MemoryGrowth growth;
  growth.process = &process;
  growth.trend = model::memory_trend(process, context.model.options());
  if (process.attribution()) {
    growth.attribution = &*process.attribution();
    // Growth that no event showed (a collapse into huge pages, a lost count) is nobody's.
    const double total = std::max(static_cast<double>(growth.attribution->total_bytes()), growth.attribution->net_bytes);
    growth.socket_share = total > 0 ? static_cast<double>(growth.attribution->socket_bytes()) / total : 0;
  }
  growth.forecast = forecast(context.model, process, growth.trend.bytes_per_second);
  return growth;
}

bool FillingProcesses::contains(model::ProcessId id)
{
  const auto [entry, is_new] = known_.try_emplace(id, false);
  const model::Process* process = is_new ? context_.model.find(id) : nullptr;
  if (process != nullptr) {
    const model::MemoryTrend trend = model::memory_trend(*process, context_.model.options());
    entry->second = trend.covers_window && trend.significant && trend.goes_on &&
                    trend.growth_bytes >= static_cast<double>(context_.thresholds.memory_growth_bytes);
  }
  return entry->second;
}

void judge_memory(const Context& context, Kind kind, std::vector<Verdict>& verdicts)
{
  for (const auto& [id, process] : context.model.processes()) {
    const bool open = context.is_open(kind, process_member(id.tgid));
    const MemoryGrowth growth = memory_growth_of(context, process);
    const model::MemoryTrend& trend = growth.trend;
    // A heap that grows in steps looks at times as if it had stopped: while a finding is open, half of the growth is enough.
    const double needed = static_cast<double>(context.thresholds.memory_growth_bytes) / (open ? 2 : 1);
    const bool steady = open || (trend.significant && trend.goes_on);
    if (!trend.covers_window || trend.growth_bytes < needed || !steady || !context.model.uses_sockets(id))
      continue;
    const Cause cause = cause_of(context, growth, open);
    // One request serves both kinds.
    const bool suspect = cause == Cause::ToBeAttributed && kind == Kind::UserSpaceBuffering &&
                         !context.is_open(Kind::HeapGrowth, process_member(id.tgid));
    if (!suspect && cause != (kind == Kind::UserSpaceBuffering ? Cause::Sockets : Cause::Other))
      continue;
    verdicts.push_back({
        .subject = process_subject(kind, id),
        .since = process.history().front().time,
        .since_is_lower_bound = process.history().front().time == context.model.started(),
        .ripe = context.now(),
        .weight = trend.bytes_per_second,
        .severity = growth.forecast.eta_seconds && *growth.forecast.eta_seconds < kCriticalEtaSeconds ? Severity::Critical
                                                                                                : Severity::Warning,
        .to_be_attributed = suspect,
    });
  }
}

void describe_memory(const Context& context, const MemoryGrowth& growth, Finding& finding)
{
  const model::ProcessSample& latest = growth.process->latest();
  const model::MemoryTrend& trend = growth.trend;
  const std::string shared =
      latest.shmem_bytes > 0 ? fmt::format(" and {} shared", format_bytes(static_cast<double>(latest.shmem_bytes))) : "";
  finding.details.push_back(fmt::format("memory: {} private{}, {} more in the last {}",
                                        format_bytes(static_cast<double>(latest.private_bytes())), shared,
                                        format_bytes(trend.growth_bytes), format_duration(context.thresholds.memory_window)));
  if (trend.read_bytes > 0)
    finding.details.push_back(fmt::format("read {} from sockets in that time: {:.2f} bytes kept per byte read",
                                          format_bytes(static_cast<double>(trend.read_bytes)), trend.retained_ratio));
  if (const model::Attribution* attribution = growth.attribution) {
    finding.details.push_back(fmt::format("{} of growth traced for {}: {} filled by socket reads, {} touched after them",
                                          format_bytes(static_cast<double>(attribution->total_bytes())),
                                          format_duration(attribution->end - attribution->begin),
                                          format_bytes(static_cast<double>(attribution->socket_kernel_bytes())),
                                          format_bytes(static_cast<double>(attribution->socket_user_bytes()))));
    finding.evidence.push_back({"attributed_ratio", growth.socket_share});
    finding.evidence.push_back({"attributed_growth_bytes", attribution->total_bytes()});
    finding.thresholds.push_back({"attribution_ratio", context.thresholds.attribution_share});
    if (attribution->lost_bytes > 0)
      finding.quality.missing.push_back(fmt::format("{} of growth came with more sockets than can be counted",
                                                    format_bytes(static_cast<double>(attribution->lost_bytes))));
  } else {
    finding.quality.missing.push_back("growth is correlated with reads, not attributed to them: this kernel could not tell");
    finding.thresholds.push_back({"retained_ratio_min", kMinRatio});
    finding.thresholds.push_back({"retained_ratio_max", kMaxRatio});
  }
  if (const auto eta = growth.forecast.eta_seconds; eta && *eta < 86400)
    finding.details.push_back(fmt::format("at this pace {} is reached in {}",
                                          growth.forecast.limit_bytes > 0
                                              ? "the cgroup's limit of " + format_bytes(static_cast<double>(growth.forecast.limit_bytes))
                                              : std::string("the end of the host's memory"),
                                          format_duration(std::chrono::seconds(static_cast<long>(*eta)))));

  auto& evidence = finding.evidence;
  evidence.push_back({"memory_bytes", latest.private_bytes()});
  if (latest.shmem_bytes > 0)
    evidence.push_back({"memory_shared_bytes", latest.shmem_bytes});
  evidence.push_back({"memory_growth_bytes", static_cast<std::uint64_t>(trend.growth_bytes)});
  evidence.push_back({"memory_growth_bytes_per_second", trend.bytes_per_second});
  evidence.push_back({"read_bytes", trend.read_bytes});
  if (trend.read_bytes > 0)
    evidence.push_back({"retained_ratio", trend.retained_ratio});
  if (growth.forecast.limit_bytes > 0)
    evidence.push_back({"memory_limit_bytes", growth.forecast.limit_bytes});
  if (growth.forecast.eta_seconds)
    evidence.push_back({"memory_limit_eta_seconds", *growth.forecast.eta_seconds});
  if (latest.error_bytes > 0)
    evidence.push_back({"memory_error_bytes", latest.error_bytes});
  finding.thresholds.push_back({"memory_growth_bytes", context.thresholds.memory_growth_bytes});
  finding.thresholds.push_back({"memory_window_seconds", seconds(context.thresholds.memory_window)});
}

}  // namespace laggard::detect
