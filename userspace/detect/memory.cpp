// SPDX-License-Identifier: MIT
#include "detect/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

// What a store needs for an item beside its bytes: key, links, slack of the allocator (memcached 56, redis 60 to 150).
constexpr double kItemBytes = 256;
// A connection costs 4 to 100 KiB: buffers, a goroutine or a stack, TLS. Growth beyond that is not of their number.
constexpr double kConnectionBytes = 256 << 10;
// Times --memory-growth (64 MiB), and times --memory-window (4 min).
constexpr int kWarmUp = 8;
// Net growth during the attribution, of what the trend promised for it: less, and it was about to stop.
constexpr double kStillGrowing = 0.25;
// Over the longer windows: of what the process has. Large ones drift.
constexpr double kDrift = 0.02;
constexpr double kCriticalEtaSeconds = 600;
// From then on it matters that a store fills, too. No forecast reaches further than sixty times as far as what was seen: an hour
// takes a minute.
constexpr double kSoonSeconds = 3600, kForesight = 60;
constexpr double kToldSeconds = 60 * 86400.0;
constexpr double kSlowBytesPerSecond = 100e3;

// The shortest window that shows the growth, of those of `at_least`.
const model::MemoryTrend* growing_trend(const Context& context, const model::Process& process, bool open, Duration at_least = {})
{
  // A heap that grows in steps looks at times as if it had stopped: while a finding is open, half of the growth is enough, over
  // the longer windows as long as it does not rest for longer than it did.
  const double needed = static_cast<double>(context.thresholds.memory_growth_bytes) / (open ? 2 : 1);
  for (const model::MemoryTrend& trend : process.trends()) {
    const bool shortest = &trend == &process.trends().front();
    const double least = shortest ? needed : std::max(needed, kDrift * static_cast<double>(process.latest().private_bytes()));
    const bool steady = (trend.significant && trend.goes_on) || (open && (shortest || !trend.rests));
    if (trend.window >= at_least && trend.covers_window && steady && trend.growth_bytes >= least)
      return &trend;
  }
  return nullptr;
}

bool is_open(const Context& context, Kind kind, const model::Process& process)
{
  return context.is_open(kind, process_member(process.latest().id.tgid));
}

bool is_open(const Context& context, const model::Process& process)
{
  return is_open(context, Kind::UserSpaceBuffering, process) || is_open(context, Kind::HeapGrowth, process);
}

bool is_soon(const MemoryGrowth& growth)
{
  const double gained = std::max(growth.process->gained_bytes(), growth.trend.growth_bytes);
  return growth.forecast.eta_seconds && *growth.forecast.eta_seconds < kSoonSeconds &&
         growth.forecast.room_bytes <= kForesight * gained;
}

bool grows_with_connections(const Context& context, const model::MemoryTrend& trend)
{
  return trend.new_sockets >= context.thresholds.leak_count && trend.growth_bytes <= kConnectionBytes * trend.new_sockets;
}

// What is kept of what is read cannot be more than that, and a little for each message.
bool is_more_than_read(const MemoryGrowth& growth, bool answers)
{
  const double per_item = answers ? kItemBytes * growth.reads_per_second : 0;
  return growth.read_bytes_per_second > 0 &&
         growth.trend.bytes_per_second > kMaxRatio * growth.read_bytes_per_second + per_item;
}

// A runtime that serves its first requests fills the heap that it took at its start (a JVM), or its young generation (V8: up to 48
// MiB). That is no leak yet. (Over the shortest window: the longer ones may reach back to its start.)
bool took_none(const MemoryGrowth& growth)
{
  const model::MemoryTrend& lately = growth.process->trends().front();
  return lately.mapped_bytes * 2 <= lately.growth_bytes;
}
bool gained_little(const Context& context, const MemoryGrowth& growth)
{
  return growth.process->gained_bytes() < kWarmUp * static_cast<double>(context.thresholds.memory_growth_bytes);
}
bool is_new(const Context& context, const MemoryGrowth& growth)
{
  return growing_trend(context, *growth.process, false, context.thresholds.memory_window * kWarmUp) == nullptr;
}

Reason reason_without_attribution(const model::MemoryTrend& trend)
{
  if (trend.read_bytes == 0)
    return Reason::Otherwise;
  return grows_as_it_reads(trend) ? Reason::KeepsReads : Reason::Undecided;
}

Reason reason_of(const Context& context, const MemoryGrowth& growth, bool open)
{
  const model::Attribution* attribution = growth.attribution;
  if (attribution == nullptr && !context.model.last_tick_facts().can_attribute)
    return reason_without_attribution(growth.trend);
  if (attribution == nullptr)
    return Reason::Untold;
  const double promised = growth.trend.bytes_per_second * seconds(attribution->end - attribution->begin);
  const bool went_on = attribution->complete && attribution->net_bytes >= kStillGrowing * promised;
  // A whole window before it is looked at again: with less, saw-teeth are looked at until a look meets nothing but a rise.
  const Duration holds = went_on ? growth.trend.window : context.thresholds.memory_window;
  if (!open && context.now() - attribution->end > holds)
    return Reason::Untold;
  if (!open && !went_on)
    return Reason::Undecided;
  if (grows_with_connections(context, growth.trend))
    return Reason::Connections;
  if (growth.socket_share < context.thresholds.attribution_share) {
    // Under load a collector touches much of what the clients brought.
    const bool partly = growth.socket_share >= context.thresholds.attribution_share / 2;
    const bool warms_up = is_new(context, growth) && (took_none(growth) || (partly && gained_little(context, growth)));
    return attribution->serves_clients() && (grows_as_it_reads(growth.trend) || warms_up) ? Reason::Store : Reason::Otherwise;
  }
  const bool answers = attribution->answered_bytes() * 2 > attribution->socket_bytes();
  if (!is_more_than_read(growth, answers))
    return answers ? Reason::Store : Reason::KeepsReads;
  const bool warms_up = is_new(context, growth) && (took_none(growth) || gained_little(context, growth));
  return answers && warms_up ? Reason::Store : Reason::PerMessage;
}

LeftOpen left_open(const Context& context, model::ProcessId id)
{
  LeftOpen count;
  if (!context.any_open(Kind::ConnectionLeak))
    return count;
  for (const auto& [cookie, member] : context.model.pools().members()) {
    if (member.process() != id)
      continue;
    count.own += context.is_open(Kind::ConnectionLeak, cookie);
    count.by_clients += member.peer != 0 && context.is_open(Kind::ConnectionLeak, member.peer);
  }
  return count;
}

// What is to be said of it, if anything.
std::optional<Kind> kind_of(const Context& context, const MemoryGrowth& growth)
{
  // One finding per growth: what it was opened as it stays.
  for (const Kind kind : {Kind::UserSpaceBuffering, Kind::HeapGrowth})
    if (is_open(context, kind, *growth.process))
      return kind;
  switch (growth.reason) {
    case Reason::Undecided:
    case Reason::Untold: return std::nullopt;
    case Reason::KeepsReads: return Kind::UserSpaceBuffering;
    case Reason::Connections:
      if (growth.left_open.all() > 0)
        return Kind::HeapGrowth;
      [[fallthrough]];
    case Reason::Store: return is_soon(growth) ? std::optional(Kind::HeapGrowth) : std::nullopt;
    case Reason::PerMessage:
    case Reason::Otherwise: return Kind::HeapGrowth;
  }
  return std::nullopt;
}

MemoryGrowth growth_of(const Context& context, const model::Process& process, const model::MemoryTrend& trend, bool open)
{
  MemoryGrowth growth;
  growth.process = &process;
  growth.trend = trend;
  growth.read_bytes_per_second = static_cast<double>(trend.read_bytes) / std::max(seconds(trend.window), 1e-9);
  if (process.attribution()) {
    const model::Attribution& attribution = *process.attribution();
    growth.attribution = &attribution;
    // Growth that no event showed (a collapse into huge pages, a lost count) is nobody's.
    const double total = std::max(static_cast<double>(attribution.total_bytes()), attribution.net_bytes);
    growth.socket_share = total > 0 ? static_cast<double>(attribution.socket_bytes()) / total : 0;
    if (const double lasted = seconds(attribution.end - attribution.begin); lasted > 0)
      growth.reads_per_second = static_cast<double>(attribution.reads) / lasted;
  }
  growth.forecast = forecast(context.model, process, trend.bytes_per_second);
  growth.reason = reason_of(context, growth, open);
  if (growth.reason == Reason::Connections)
    growth.left_open = left_open(context, process.latest().id);
  return growth;
}

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
      blamed.push_back({share.cookie, share.tuple, share.bytes()});
  } else {
    for (const auto& [cookie, connection] : context.model.connections())
      if (connection.latest().reader_tgid == growth.process->latest().id.tgid && connection.recent_read_bytes() > 0)
        blamed.push_back({cookie, connection.latest().tuple, connection.recent_read_bytes()});
  }
  std::ranges::sort(blamed, [](const Blamed& a, const Blamed& b) { return a.bytes != b.bytes ? a.bytes > b.bytes : a.cookie < b.cookie; });
  return blamed;
}

}  // namespace

Forecast forecast(const model::Model& model, const model::Process& process, double bytes_per_second)
{
  Forecast result;
  if (bytes_per_second <= 0)
    return result;
  result.room_bytes = static_cast<double>(model.last_tick_facts().host_available_bytes);
  if (const auto& attribution = process.attribution(); attribution && attribution->limit_bytes > 0) {
    const double left = static_cast<double>(attribution->headroom_bytes) - process.grown_since_attribution();
    const double below_limit = std::max(0.0, left);
    if (result.room_bytes == 0 || below_limit < result.room_bytes) {
      result.room_bytes = below_limit;
      result.limit_bytes = attribution->limit_bytes;
    }
  }
  if (result.room_bytes > 0 || result.limit_bytes > 0)
    result.eta_seconds = result.room_bytes / bytes_per_second;
  return result;
}

MemoryGrowth memory_growth_of(const Context& context, const model::Process& process)
{
  const bool open = is_open(context, process);
  const model::MemoryTrend* trend = growing_trend(context, process, open);
  return growth_of(context, process, trend != nullptr ? *trend : process.trends().front(), open);
}

bool is_filling(const Context& context, model::ProcessId id)
{
  const model::Process* process = context.model.find(id);
  return process != nullptr && growing_trend(context, *process, false) == &process->trends().front();
}

void judge_memory(const Context& context, Kind kind, std::vector<Verdict>& verdicts)
{
  for (const auto& [id, process] : context.model.processes()) {
    const bool open = is_open(context, process);
    const model::MemoryTrend* trend = growing_trend(context, process, open);
    if (trend == nullptr || !context.model.uses_sockets(process))
      continue;
    const MemoryGrowth growth = growth_of(context, process, *trend, open);
    // One request serves both kinds.
    const bool suspect = growth.reason == Reason::Untold && kind == Kind::UserSpaceBuffering && !open;
    if (!suspect && kind_of(context, growth) != kind)
      continue;
    const MonoTime since = std::max(context.now() - trend->window, process.first_seen());
    verdicts.push_back({
        .subject = process_subject(kind, id),
        .since = since,
        .since_is_lower_bound = since - context.model.started() < context.model.interval() / 2,
        .ripe = context.now(),
        .weight = trend->bytes_per_second,
        .severity = growth.forecast.eta_seconds && *growth.forecast.eta_seconds < kCriticalEtaSeconds ? Severity::Critical
                                                                                                : Severity::Warning,
        .to_be_attributed = suspect,
        .needed_bytes = suspect ? static_cast<std::uint64_t>(kStillGrowing * trend->bytes_per_second * seconds(context.thresholds.attribution)) : 0,
        .patience = trend->window,
    });
  }
}

std::string pace(const MemoryGrowth& growth)
{
  const double bytes_per_second = growth.trend.bytes_per_second;
  return bytes_per_second < kSlowBytesPerSecond ? format_bytes(bytes_per_second * 60) + " a minute" : format_rate(bytes_per_second);
}

void blame_sockets(const Context& context, const MemoryGrowth& growth, Finding& finding)
{
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
                                                  "{}' shows the code", growth.process->latest().id.tgid));
}

void describe_memory(const Context& context, const MemoryGrowth& growth, Finding& finding)
{
  const model::ProcessSample& latest = growth.process->latest();
  const model::MemoryTrend& trend = growth.trend;
  const std::string shared =
      latest.shmem_bytes > 0 ? fmt::format(" and {} shared", format_bytes(static_cast<double>(latest.shmem_bytes))) : "";
  finding.details.push_back(fmt::format("memory: {} private{}, {} more in the last {}",
                                        format_bytes(static_cast<double>(latest.private_bytes())), shared,
                                        format_bytes(trend.growth_bytes), format_duration(trend.window)));
  if (trend.read_bytes > 0)
    finding.details.push_back(fmt::format("read {} from sockets in that time: {:.2f} bytes kept per byte read",
                                          format_bytes(static_cast<double>(trend.read_bytes)), trend.retained_ratio));
  if (growth.reason == Reason::Connections)
    finding.details.push_back(fmt::format("{} more sockets in that time: {} each", trend.new_sockets,
                                          format_bytes(trend.growth_bytes / trend.new_sockets)));
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
  if (const auto eta = growth.forecast.eta_seconds; eta && *eta < kToldSeconds)
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
  if (growth.reason == Reason::PerMessage && growth.reads_per_second > 0) {
    evidence.push_back({"messages_per_second", growth.reads_per_second});
    evidence.push_back({"message_growth_bytes", growth.bytes_per_message()});
  }
  if (growth.reason == Reason::Connections) {
    evidence.push_back({"new_sockets", std::uint64_t{trend.new_sockets}});
    evidence.push_back({"left_open", growth.left_open.all()});
  }
  if (growth.forecast.limit_bytes > 0)
    evidence.push_back({"memory_limit_bytes", growth.forecast.limit_bytes});
  if (growth.forecast.eta_seconds)
    evidence.push_back({"memory_limit_eta_seconds", *growth.forecast.eta_seconds});
  if (latest.error_bytes > 0)
    evidence.push_back({"memory_error_bytes", latest.error_bytes});
  finding.thresholds.push_back({"memory_growth_bytes", context.thresholds.memory_growth_bytes});
  finding.thresholds.push_back({"memory_window_seconds", seconds(trend.window)});
}

}  // namespace laggard::detect
