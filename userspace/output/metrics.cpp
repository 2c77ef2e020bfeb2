// SPDX-License-Identifier: MIT
#include "output/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <numeric>
#include <sstream>

namespace laggard::output {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using detect::Kind;
using detect::Resolution;
using detect::Severity;

#define LAGGARD_KIND_VALUE(name, text) Kind::name,
constexpr std::array kKinds = {LAGGARD_FINDING_KINDS(LAGGARD_KIND_VALUE)};
#undef LAGGARD_KIND_VALUE
constexpr std::array kSeverities = {Severity::Warning, Severity::Critical};
constexpr std::array kResolutions = {Resolution::Drained, Resolution::Closed, Resolution::ProcessExited, Resolution::Subsided,
                                     Resolution::ObserverStopped, Resolution::LostSight, Resolution::Regrouped};

struct Label {
  const char* name;
  std::string_view value;  // empty: as good as no label, says Prometheus
};

// The families of one page, in the order in which they are added.
class Page {
 public:
  MetricFamily& family(MetricType type, std::string name, const char* help)
  {
    return families_.emplace_back(MetricFamily{std::move(name), help, type, {}});
  }

  void gauge(std::string name, const char* help, double value) { add(family(MetricType::Gauge, std::move(name), help), {}, value); }
  void counter(std::string name, const char* help, double value) { add(family(MetricType::Counter, std::move(name), help), {}, value); }

  static void add(MetricFamily& family, std::initializer_list<Label> labels, double value)
  {
    ClientMetric metric;
    for (const Label& label : labels)
      if (!label.value.empty())
        metric.label.push_back({label.name, std::string(label.value)});
    (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    family.metric.push_back(std::move(metric));
  }
  static void add(MetricFamily& family, std::initializer_list<Label> labels, std::uint64_t value)
  {
    add(family, labels, static_cast<double>(value));
  }

  std::string text() const
  {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    prometheus::TextSerializer{}.Serialize(out, families_);
    return std::move(out).str();
  }

 private:
  std::vector<MetricFamily> families_;
};

double since_1970(WallTime time) { return seconds(time.time_since_epoch()); }

}  // namespace

Metrics::Metrics(model::Observer observer) : observer_(std::move(observer))
{
  for (const Kind kind : kKinds) {
    for (const Severity severity : kSeverities)
      open_[{kind, severity, {}, {}}] = 0;
    for (const Resolution resolution : kResolutions)
      resolved_[{kind, {}, resolution, {}}] = 0;
  }
  none_opened_yet({});
  for (const model::Transport transport : {model::Transport::Tcp, model::Transport::Udp})
    tracked_[transport] = 0;
  for (const char* record : {"socket", "gone", "holder", "process", "pooled", "growth", "pair", "workload"})
    records_[record] = 0;
}

// The first finding of a kind is an increase of what was 0 before.
void Metrics::none_opened_yet(const std::string& k8s_namespace)
{
  for (const Kind kind : kKinds)
    for (const Severity severity : kSeverities)
      opened_.try_emplace({kind, severity, {}, k8s_namespace}, 0);
}

std::string Metrics::bounded_namespace(const std::string& name)
{
  if (name.empty() || namespaces_.contains(name))
    return name;
  if (namespaces_.size() >= kMaxNamespaces)
    return "other";
  return *namespaces_.insert(name).first;
}

void Metrics::finding(const detect::Finding& finding)
{
  const std::string k8s_namespace = bounded_namespace(finding.process.workload.k8s_namespace_name);
  std::optional<Severity> before;
  if (const auto known = is_open_.find(finding.id); known != is_open_.end()) {
    before = known->second.severity;
    open_[known->second]--;
    is_open_.erase(known);
  }
  if (finding.phase == detect::Phase::Opened || (before && *before < finding.severity))
    opened_[{finding.kind, finding.severity, {}, k8s_namespace}]++;
  if (finding.phase == detect::Phase::Resolved) {
    resolved_[{finding.kind, {}, finding.resolution.value_or(Resolution::Subsided), k8s_namespace}]++;
    return;
  }
  // The severity may have risen since.
  const Series series{finding.kind, finding.severity, {}, k8s_namespace};
  is_open_[finding.id] = series;
  open_[series]++;
}

void Metrics::records(const model::Tick& tick)
{
  records_["socket"] += tick.sockets.size();
  records_["still"] += tick.still.size();
  records_["gone"] += tick.gone.size();
  records_["holder"] += tick.holders.size();
  records_["process"] += tick.processes.size();
  records_["pooled"] += tick.pooled.size();
  records_["growth"] += tick.growths.size();
  records_["pair"] += tick.pairs.size();
  records_["workload"] += tick.workloads.size();
  for (const model::WorkloadSample& sample : tick.workloads)
    none_opened_yet(bounded_namespace(sample.workload.k8s_namespace_name));
}

void Metrics::tick(const model::Model& model)
{
  const model::TickFacts& facts = model.last_tick_facts();
  ticks_++;
  last_tick_ = facts.wall_time;
  lost_ = facts.lost;
  unobserved_ = model.gaps().total();
  evicted_ = model.evicted();
  sweep_period_ = facts.sweep_period;
  if (model.judges_sockets()) {
    for (auto& [transport, count] : tracked_)
      count = 0;
    for (const auto& [cookie, connection] : model.connections())
      tracked_[connection.latest().transport]++;
  }
  if (!facts.swept)
    return;
  swept_sockets_ = facts.sockets_visited;
  const double cpu = seconds(facts.sweep_cpu);
  sweep_seconds_ += cpu;
  sweeps_[static_cast<std::size_t>(std::ranges::lower_bound(kSweepBounds, cpu) - kSweepBounds.begin())]++;
}

std::string Metrics::text(const SelfUsage& self, Reader reader) const
{
  Page page;
  Page::add(page.family(MetricType::Gauge, "laggard_build_info", "The running laggard; always 1."), {{"version", observer_.version}}, 1.0);
  auto& hooks = page.family(MetricType::Gauge, "laggard_hook_info", "Where in the kernel each feed is measured, 'off' where it is not; always 1.");
  for (const model::HookChoice& choice : observer_.hooks)
    Page::add(hooks, {{"feed", choice.feed}, {"hook", choice.hook.empty() ? "off" : choice.hook}}, 1.0);

  const auto findings = [&page](MetricType type, const char* name, const char* help, const auto& counts, const char* label, auto value) {
    auto& family = page.family(type, name, help);
    for (const auto& [series, count] : counts)
      Page::add(family, {{"kind", to_string(series.kind)}, {label, to_string(series.*value)}, {"k8s_namespace_name", series.k8s_namespace}}, count);
  };
  findings(MetricType::Gauge, "laggard_findings_open", "Findings that are open now.", open_, "severity", &Series::severity);
  findings(MetricType::Counter, "laggard_findings_opened_total", "Findings opened; those that became critical later are counted there again.", opened_, "severity", &Series::severity);
  findings(MetricType::Counter, "laggard_findings_resolved_total", "Findings resolved, by what ended them.", resolved_, "resolution", &Series::resolution);

  page.counter("laggard_ticks_total", "Looks at the kernel, one per --interval.", static_cast<double>(ticks_));
  page.gauge("laggard_last_tick_timestamp_seconds", "When the latest look was, since 1970; 0: none yet.", since_1970(last_tick_));
  auto& tracked = page.family(MetricType::Gauge, "laggard_sockets_tracked", "Sockets with something to judge, such as unread bytes; idle ones are not among them.");
  for (const auto& [transport, count] : tracked_)
    Page::add(tracked, {{"transport", to_string(transport)}}, count);
  page.counter("laggard_sockets_evicted_total", "Sockets with something to judge that there was no room for.", static_cast<double>(evicted_));
  page.gauge("laggard_sweep_sockets", "Sockets, idle ones included, that the latest look at all of them visited.", static_cast<double>(swept_sockets_));
  page.gauge("laggard_sweep_period_seconds", "How far apart the looks at all sockets must be to stay within --max-cpu.", seconds(sweep_period_));

  auto& sweeps = page.family(MetricType::Histogram, "laggard_sweep_duration_seconds", "Processor time of each look at the kernel that visited all sockets.");
  ClientMetric sweep;
  for (std::size_t i = 0; i < kSweepBounds.size(); i++)
    sweep.histogram.bucket.push_back({std::accumulate(sweeps_.begin(), sweeps_.begin() + static_cast<std::ptrdiff_t>(i) + 1, std::uint64_t{0}), kSweepBounds[i]});
  sweep.histogram.sample_count = std::accumulate(sweeps_.begin(), sweeps_.end(), std::uint64_t{0});
  sweep.histogram.sample_sum = sweep_seconds_;
  sweeps.metric.push_back(std::move(sweep));

  auto& records = page.family(MetricType::Counter, "laggard_records_total", "Records received from the kernel.");
  for (const auto& [record, count] : records_)
    Page::add(records, {{"record", record}}, count);
  auto& lost = page.family(MetricType::Counter, "laggard_lost_total", "What laggard could not see, by cause; of skipped_runs no record is lost, counts of reads are that much lower.");
  Page::add(lost, {{"cause", "ring_full"}}, lost_.ring_full);
  Page::add(lost, {{"cause", "no_storage"}}, lost_.no_storage);
  Page::add(lost, {{"cause", "no_totals"}}, lost_.no_totals);
  Page::add(lost, {{"cause", "skipped_runs"}}, lost_.skipped_runs);
  page.counter("laggard_unobserved_seconds_total", "Time in which nothing was looked at, because laggard was stopped or got no processor.", seconds(unobserved_));
  page.counter("laggard_degraded_total", "Times laggard said that it sees less well from then on.", static_cast<double>(degraded_));

  page.gauge("laggard_output_waiting_lines", "Lines that wait until whoever reads the output takes them.", static_cast<double>(waiting_));
  auto& dropped = page.family(MetricType::Counter, "laggard_output_dropped_total", "Lines that were not written because the output took no more, by what they said of a finding; degraded: of laggard itself.");
  Page::add(dropped, {{"phase", "opened"}}, dropped_.opened);
  Page::add(dropped, {{"phase", "updated"}}, dropped_.updated);
  Page::add(dropped, {{"phase", "resolved"}}, dropped_.resolved);
  Page::add(dropped, {{"phase", "degraded"}}, dropped_.degraded);

  // All zero: nobody told the kernel to count.
  if (std::ranges::any_of(programs_, [](const model::ProgramRuns& program) { return program.runs > 0; })) {
    auto& run_seconds = page.family(MetricType::Counter, "laggard_bpf_run_seconds_total", "Time in each BPF program; counted while sysctl kernel.bpf_stats_enabled is 1.");
    for (const model::ProgramRuns& program : programs_)
      Page::add(run_seconds, {{"program", program.name}}, seconds(program.run_time));
    auto& runs = page.family(MetricType::Counter, "laggard_bpf_runs_total", "Runs of each BPF program; counted while sysctl kernel.bpf_stats_enabled is 1.");
    for (const model::ProgramRuns& program : programs_)
      Page::add(runs, {{"program", program.name}}, program.runs);
  }

  const std::string prefix = reader == Reader::NodeExporter ? "laggard_" : "";
  page.counter(prefix + "process_cpu_seconds_total", "Processor time of laggard, user and system.", self.cpu_seconds);
  page.gauge(prefix + "process_resident_memory_bytes", "Resident memory of laggard.", static_cast<double>(self.resident_bytes));
  page.gauge(prefix + "process_open_fds", "Open file descriptors of laggard.", static_cast<double>(self.open_fds));
  page.gauge(prefix + "process_start_time_seconds", "When laggard started, since 1970.", self.start_time_seconds);
  return page.text();
}

}  // namespace laggard::output
