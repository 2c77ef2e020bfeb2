// SPDX-License-Identifier: MIT
#include "detect/detector.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/units.h"

namespace laggard::detect {
namespace {

// A holders walk of this age still counts: a descriptor seldom changes hands, and a walk costs 1.1 us per descriptor.
constexpr Duration kHoldersFresh = std::chrono::seconds(5);
// A source that does not walk (an old recording, no rights) must not keep us silent.
constexpr Duration kHoldersPatience = std::chrono::seconds(3);
constexpr Duration kFirstPause = std::chrono::seconds(10);
constexpr Duration kFirstPauseOfMany = std::chrono::seconds(30);
constexpr Duration kLongestPause = std::chrono::hours(1);
constexpr int kPictures = 16;

std::uint64_t member_of(const Verdict& verdict)
{
  return verdict.cookie != 0 ? verdict.cookie : subject_member(verdict.subject);
}

// Stable across replays of one recording. The upper half names the subject, so that `laggard explain` can find it again, the
// lower one tells two times of trouble apart, also where the condition began only once: a queue that stands and lags at times.
std::uint64_t finding_id(const Subject& subject, MonoTime opened)
{
  const std::size_t when = model::hash_bytes(&opened, sizeof opened);
  return std::uint64_t{subject_tag(subject)} << 32 | static_cast<std::uint32_t>(when ^ when >> 32);
}

// Where processes are not walked nothing is known of their end.
bool has_exited(const model::Model& model, model::ProcessId id)
{
  return id && !model.processes().empty() && model.find(id) == nullptr;
}

// What a verdict is about: a tracked connection, an idle one of a pool, or, with neither, a process.
struct Member {
  const model::Connection* connection = nullptr;
  const model::Pooled* pooled = nullptr;

  explicit operator bool() const { return connection != nullptr || pooled != nullptr; }
  const model::Tuple& tuple() const { return pooled != nullptr ? pooled->sample.tuple : connection->latest().tuple; }
  std::uint32_t netns() const { return pooled != nullptr ? pooled->sample.netns : connection->latest().netns; }
  std::span<const model::ProcessId> holders() const
  {
    return pooled != nullptr ? pooled->holders() : connection->holders();
  }
  MonoTime holders_checked() const { return pooled != nullptr ? pooled->holders_checked : connection->holders_checked(); }
  // A pool's record is too small for it: the process's is as good.
  std::uint64_t cgroup_id(const model::Model& model) const
  {
    if (pooled == nullptr)
      return connection->latest().cgroup_id;
    const model::Process* process = model.find(pooled->process());
    return process != nullptr ? process->latest().cgroup_id : 0;
  }
  SocketRef socket(const model::Model& model) const
  {
    if (pooled != nullptr)
      return {.transport = pooled->sample.transport,
              .state = pooled->sample.tuple.peer.port == 0 ? model::TcpState::Close : model::TcpState::Established,
              .tuple = pooled->sample.tuple,
              .accepted = pooled->role == model::Role::Accepted,
              .connected = pooled->role == model::Role::Opened,
              .cookie = pooled->sample.cookie,
              .netns = pooled->sample.netns,
              .cgroup_id = cgroup_id(model)};
    return socket_ref(model, connection->latest());
  }
};

Member find_member(const model::Model& model, const Verdict& verdict)
{
  if (verdict.subject.kind == Kind::ConnectionLeak)
    return {nullptr, model.pools().find(verdict.cookie)};
  return {model.find(verdict.cookie), nullptr};
}

// In the midst of a sweep: of a socket that it has not come to nothing is known after it was looked at last.
MonoTime seen_until(const model::Model& model, const Verdict& verdict)
{
  const model::Connection* connection = model.last_tick_facts().swept ? nullptr : model.find(verdict.cookie);
  const bool is_old = connection != nullptr && model.now() - connection->latest().time > model.interval() * 2;
  return is_old ? connection->latest().time : model.now();
}

Duration grace_of(const model::Model& model) { return std::max(model.options().window, model.interval() * 2); }

}  // namespace

bool Detector::concerns_wanted_process(const model::Model& model, const Verdict& verdict) const
{
  const std::set<std::uint32_t>& tgids = options_.filter.tgids;
  if (tgids.empty() || tgids.contains(verdict.subject.process.tgid))
    return true;
  const Member member = find_member(model, verdict);
  return member && std::ranges::any_of(member.holders(), [&](model::ProcessId holder) { return tgids.contains(holder.tgid); });
}

bool Detector::passes(const model::Model& model, const Verdict& verdict) const
{
  const Filter& filter = options_.filter;
  const auto allows = [](const auto& set, const auto& value) { return set.empty() || set.contains(value); };
  // A suspect may turn out to be either kind of memory finding.
  const bool kind_passes = allows(filter.kinds, verdict.subject.kind) ||
                           (verdict.to_be_attributed && filter.kinds.contains(Kind::HeapGrowth));
  // Until its socket is looked for once, a process of --pid may hold it.
  const Member member = find_member(model, verdict);
  const bool may_be_held = member && !known(member.holders_checked()) && !verdict.to_be_attributed;
  if (!kind_passes || (!may_be_held && !concerns_wanted_process(model, verdict)))
    return false;
  const model::Process* process = model.find(verdict.subject.process);
  if (!filter.comms.empty() && (process == nullptr || !filter.comms.contains(process->latest().comm)))
    return false;
  if (!member)
    return filter.ports.empty() && filter.netns.empty() &&
           allows(filter.cgroup_ids, process != nullptr ? process->latest().cgroup_id : 0);
  return allows(filter.netns, member.netns()) && allows(filter.cgroup_ids, member.cgroup_id(model)) &&
         (filter.ports.empty() || filter.ports.contains(member.tuple().local.port) ||
          filter.ports.contains(member.tuple().peer.port));
}

Context Detector::context_of(const model::Model& model) const
{
  return {model, options_.thresholds,
          [this](Kind kind, std::uint64_t member) {
            const auto found = open_members_.find(kind);
            return found != open_members_.end() && std::ranges::binary_search(found->second, member);
          },
          [this](Kind kind) { return open_members_.contains(kind); }};
}

std::vector<Verdict> Detector::collect(const model::Model& model)
{
  Context context = context_of(model);
  std::vector<Verdict> verdicts;
  verdicts.reserve(verdicts_before_ + verdicts_before_ / 8);
  std::vector<std::vector<const model::Connection*>> concerned(rules().size());
  if (model.judges_sockets())
    for (const auto& [cookie, connection] : model.connections())
      for (std::size_t i = 0; i < concerned.size(); i++)
        if (rules()[i].concerns != nullptr && rules()[i].concerns(connection))
          concerned[i].push_back(&connection);
  for (std::size_t i = 0; i < concerned.size(); i++) {
    context.connections = concerned[i];
    if (model.judges_sockets() || rules()[i].concerns == nullptr)
      rules()[i].judge(context, verdicts);
  }
  if (model.judges_sockets())
    verdicts_before_ = verdicts.size();
  std::erase_if(verdicts, [&](const Verdict& verdict) { return !passes(model, verdict); });

  list_suspects(model.now(), verdicts);
  std::erase_if(verdicts, [](const Verdict& verdict) { return verdict.to_be_attributed; });
  return verdicts;
}

void Detector::list_suspects(MonoTime now, std::span<const Verdict> verdicts)
{
  std::vector<Suspect> before;
  std::swap(before, suspects_);
  for (const Verdict& verdict : verdicts) {
    if (!verdict.to_be_attributed)
      continue;
    const auto known = std::ranges::find(before, verdict.subject.process, &Suspect::process);
    suspects_.push_back(
        {verdict.subject.process, known != before.end() ? known->since : now, verdict.needed_bytes, verdict.patience});
  }
  std::ranges::sort(suspects_, [](const Suspect& a, const Suspect& b) {
    return a.since != b.since ? a.since < b.since : a.process < b.process;
  });
}

bool Detector::holders_verified(const model::Model& model, const Verdict& verdict) const
{
  const Member member = find_member(model, verdict);
  if (!member)
    return true;  // about a process: nothing to hold
  // Where sweeps are dear, walks over holders are, too.
  const Duration fresh = std::max(kHoldersFresh, model.last_tick_facts().sweep_period * 2);
  return known(member.holders_checked()) && model.now() - member.holders_checked() <= fresh;
}

Groups Detector::group(const model::Model& model)
{
  const MonoTime now = model.now();
  const Context context = context_of(model);
  Groups groups;
  std::set<Subject> ripening;
  wants_holders_ = false;
  for (Verdict& verdict : collect(model)) {
    const bool open = context.is_open(verdict.subject.kind, member_of(verdict));
    // Ticks come some microseconds early or late: what ripens right after one need not wait for the next.
    const bool ripe = open || verdict.ripe == now || verdict.ripe <= seen_until(model, verdict) + model.interval() / 20;
    const bool verified = holders_verified(model, verdict);
    if (!open && !verified && verdict.ripe - now <= 2 * model.interval())
      wants_holders_ = true;
    // Nobody holds it any more: an orphan on its way out. What has no finding yet waits for no walk for ever.
    const Member member = find_member(model, verdict);
    const bool is_orphan = member && known(member.holders_checked()) && member.holders().empty();
    if (!open && is_orphan && (verified || open_.contains(verdict.subject)))
      continue;
    if (ripe && concerns_wanted_process(model, verdict))
      groups[verdict.subject].push_back(std::move(verdict));
    else if (now - verdict.since >= verdict.ripe - now)
      ripening.insert(verdict.subject);
  }
  collapse(model, ripening, [this](const Subject& whole) { return open_.contains(whole); }, groups);
  for (auto& [subject, members] : groups)
    std::ranges::partial_sort(members, members.begin() + static_cast<std::ptrdiff_t>(std::min(members.size(), kMaxExamples)),
                              [](const Verdict& a, const Verdict& b) {
                                return a.weight != b.weight ? a.weight > b.weight : a.cookie < b.cookie;
                              });
  return groups;
}

std::vector<Finding> Detector::evaluate(const model::Model& model)
{
  const MonoTime now = model.now();
  const Groups groups = group(model);
  std::vector<Finding> findings;
  std::map<Subject, MonoTime> unverified;
  for (const auto& [subject, members] : groups) {
    auto open = open_.find(subject);
    if (open == open_.end()) {
      if (!holders_verified(model, members.front())) {
        const auto waiting = unverified_since_.find(subject);
        const MonoTime since = waiting == unverified_since_.end() ? now : waiting->second;
        unverified[subject] = since;
        if (now - since < kHoldersPatience)
          continue;
      }
      const auto worst = std::ranges::max(members, {}, &Verdict::severity).severity;
      if (worst < options_.filter.min_severity)
        continue;
      const auto oldest = std::ranges::min_element(members, {}, &Verdict::since);
      Open fresh;
      fresh.id = finding_id(subject, now);
      fresh.since = oldest->since;
      fresh.since_is_lower_bound = oldest->since_is_lower_bound;
      fresh.lost_at_start = model.last_tick_facts().lost.total();
      fresh.next_pause = subject.is_whole ? kFirstPauseOfMany : kFirstPause;
      fresh.opened = now;
      open = open_.emplace(subject, std::move(fresh)).first;
      counts_.opened++;
      findings.push_back(make(model, open->second, members, Phase::Opened));
    } else if (worth_saying(open->second, members, now)) {
      findings.push_back(make(model, open->second, members, Phase::Updated));
    } else {
      remember_members(open->second, members);
      // What the line that resolves it will tell: as old as a sixteenth of its life, for most of what is open stays as it is.
      if (now - open->second.pictured >= (now - open->second.opened) / kPictures) {
        open->second.last = picture(model, open->second, members);
        open->second.pictured = now;
      }
    }
    open->second.last_true = now;
    (open->second.severity == Severity::Critical ? counts_.any_critical : counts_.any_warning) = true;
  }
  unverified_since_ = std::move(unverified);

  for (auto it = open_.begin(); it != open_.end();) {
    Open& open = it->second;
    if (const Open* whole = open.last_true != now ? regrouped_in(model, it->first, groups) : nullptr) {
      findings.push_back(resolve(model, open, Resolution::Regrouped));
      findings.back().symptom_of = whole->id;
    } else if (has_ended(model, it->first, open)) {
      findings.push_back(resolve(model, open, reason_of(model, it->first, open)));
    } else {
      ++it;
      continue;
    }
    it = open_.erase(it);
  }

  counts_.open = open_.size();
  // Else everybody is where they were.
  if (!model.judges_sockets() && findings.empty())
    return findings;
  link(model, findings);
  open_members_.clear();
  for (const auto& [subject, open] : open_) {
    std::vector<std::uint64_t>& all = open_members_[subject.kind];
    all.insert(all.end(), open.members.begin(), open.members.end());
  }
  for (auto& [kind, members] : open_members_)
    std::ranges::sort(members);
  return findings;
}

const Detector::Open* Detector::regrouped_in(const model::Model& model, const Subject& subject, const Groups& groups) const
{
  const auto find = [&](const Subject& other) -> const Open* {
    const auto open = open_.find(other);
    return groups.contains(other) && open != open_.end() ? &open->second : nullptr;
  };
  for (const Subject& whole : wholes_of(model, subject))
    if (const Open* open = find(whole))
      return open;
  if (!subject.is_whole)
    return nullptr;
  for (const auto& [part, members] : groups)
    if (part != subject && part.kind == subject.kind && std::ranges::count(wholes_of(model, part), subject) > 0)
      if (const Open* open = find(part))
        return open;
  return nullptr;
}

bool Detector::has_ended(const model::Model& model, const Subject& subject, Open& open) const
{
  // A member that does not exist any more cannot come back; one that only recovered gets a period of grace.
  if (model.any_destroyed())
    std::erase_if(open.members, [&](std::uint64_t member) { return model.was_destroyed(member); });
  if (open.last_true == model.now())
    return false;
  if (open.members.empty() || has_exited(model, subject.process))
    return true;
  // Not judged at this tick.
  if (is_about_sockets(subject.kind) && !model.judges_sockets())
    return false;
  return model.now() - open.last_true >= std::max(grace_of(model), model.last_tick_facts().sweep_period * 3 / 2);
}

void Detector::remember_members(Open& open, const std::vector<Verdict>& members)
{
  for (const Verdict& verdict : members) {
    open.members.push_back(member_of(verdict));
    open.processes.push_back(verdict.subject.process);
  }
  const auto make_set = [](auto& all) {
    std::ranges::sort(all);
    all.erase(std::unique(all.begin(), all.end()), all.end());
    all.shrink_to_fit();
  };
  make_set(open.members);
  make_set(open.processes);
}

bool Detector::names(std::uint64_t cookie) const
{
  return std::ranges::any_of(open_members_, [cookie](const auto& entry) { return std::ranges::binary_search(entry.second, cookie); });
}

std::vector<Finding> Detector::finish(const model::Model& model)
{
  std::vector<Finding> findings;
  for (auto& [subject, open] : open_)
    findings.push_back(resolve(model, open, Resolution::ObserverStopped));
  open_.clear();
  open_members_.clear();
  return findings;
}

bool Detector::worth_saying(const Open& open, const std::vector<Verdict>& members, MonoTime now) const
{
  const auto worst = std::ranges::max(members, {}, &Verdict::severity).severity;
  if (worst > open.severity)
    return true;
  // A class is a factor of two in members, of ten in weight: said at 3 s of lag, again at 30 s.
  if (members.size() >= open.said_count * 2 || members.front().weight >= open.said_weight * 10)
    return true;
  return now - open.last_said >= open.next_pause;
}

// How a group has grown since it was last told of. connection-leak has its own number of new ones.
void Detector::describe_change(const Open& open, MonoTime now, Finding& finding)
{
  if (!finding.is_group || open.said_count == 0 || open.said_count == finding.count || finding.kind == Kind::ConnectionLeak)
    return;
  const double change = (static_cast<double>(finding.count) - static_cast<double>(open.said_count)) /
                        std::max(seconds(now - open.last_said), 1e-3);
  finding.message += fmt::format("; was {}, now {}, {:+.2g}/s", open.said_count, finding.count, change);
  finding.evidence.push_back({"count_change_per_second", change});
}

Finding Detector::picture(const model::Model& model, const Open& open, const std::vector<Verdict>& members) const
{
  const Verdict& worst = members.front();
  const Context context = context_of(model);
  Finding finding;
  finding.id = open.id;
  finding.kind = worst.subject.kind;
  finding.severity = std::max(open.severity, std::ranges::max(members, {}, &Verdict::severity).severity);
  finding.time = model.last_tick_facts().wall_time;
  finding.start_time = finding.time - (model.now() - open.since);
  finding.start_is_lower_bound = open.since_is_lower_bound;
  finding.duration = model.now() - open.since;
  finding.count = members.size();

  const model::ProcessId id = worst.subject.process;
  finding.process.id = id;
  if (id)
    finding.process.creation_time = model.last_tick_facts().started_at(id);
  if (const model::Process* process = model.find(id)) {
    finding.process.comm = process->latest().comm;
    finding.process.vpid = process->latest().vpid;
    finding.process.uid = process->latest().uid;
  }
  finding.quality.hooks = options_.hooks;
  finding.quality.missing = options_.missing;
  if (const Member member = find_member(model, worst)) {
    finding.socket = member.socket(model);
    if (member.holders().size() > 1)
      for (model::ProcessId holder : member.holders())
        finding.holders.push_back(holder.tgid);
    if (!holders_verified(model, worst))
      finding.quality.missing.push_back("who holds the socket now was not verified");
    finding.is_group = members.size() > 1;
    const std::size_t shown = finding.is_group ? std::min(members.size(), kMaxExamples) : 0;
    for (const Verdict& verdict : std::span(members).first(shown))
      if (const Member example = find_member(model, verdict))
        finding.examples.push_back(example.tuple());
  }
  finding.quality.lost_records = model.last_tick_facts().lost.total() - open.lost_at_start;
  finding.quality.unobserved = model.gaps().since(open.since);
  finding.process.workload = model.workload_of(id, finding.socket ? finding.socket->cgroup_id : 0);
  // Why it is looked at late.
  if (const Duration period = model.last_tick_facts().sweep_period; is_about_sockets(finding.kind) && period > model.interval() * 2)
    finding.quality.missing.push_back(fmt::format("what happens between two looks {} apart (--max-cpu)", format_duration(period)));
  rule_of(finding.kind).describe(context, members, finding);
  describe_change(open, model.now(), finding);
  describe_whole(model, members, finding);
  return finding;
}

// Of many subjects in one: how many processes and endpoints they are. What the rule said is about the worst of them.
void Detector::describe_whole(const model::Model& model, const std::vector<Verdict>& members, Finding& finding)
{
  std::set<model::ProcessId> processes;
  std::set<model::Endpoint> endpoints;
  std::set<Subject> subjects;
  const Subject* before = nullptr;
  for (const Verdict& verdict : members) {
    if (before != nullptr && verdict.subject == *before)
      continue;
    before = &verdict.subject;
    processes.insert(verdict.subject.process);
    endpoints.insert(verdict.subject.endpoint);
    subjects.insert(verdict.subject);
  }
  finding.is_whole = subjects.size() > 1;
  if (!finding.is_whole)
    return;
  finding.processes = processes.size();
  finding.endpoints = endpoints.size();
  finding.is_group = true;
  if (processes.size() > 1)
    for (const Verdict& verdict : std::span(members).first(std::min(members.size(), kMaxExamples))) {
      const model::Process* process = model.find(verdict.subject.process);
      finding.example_processes.push_back(fmt::format("{}[{}]", process != nullptr ? process->latest().comm : std::string("?"),
                                                      verdict.subject.process.tgid));
    }
  std::string what;
  if (processes.size() > 1)
    what = fmt::format("{} processes alike", processes.size());
  if (endpoints.size() > 1)
    what += fmt::format("{}{} endpoints", what.empty() ? "" : ", ", endpoints.size());
  if (what.empty())
    what = fmt::format("{} subjects", subjects.size());
  finding.message = fmt::format("{}; the worst: {}", what, finding.message);
  finding.details.insert(finding.details.begin(), what + "; the worst of them:");
}

Finding Detector::make(const model::Model& model, Open& open, const std::vector<Verdict>& members, Phase phase)
{
  Finding finding = picture(model, open, members);
  finding.phase = phase;
  finding.sequence = ++open.sequence;
  open.severity = finding.severity;
  open.last_said = model.now();
  if (phase == Phase::Updated)
    open.next_pause = std::min(open.next_pause * 2, kLongestPause);
  open.said_count = members.size();
  open.said_weight = members.front().weight;
  open.members.clear();
  open.processes.clear();
  remember_members(open, members);
  open.last = finding;
  open.pictured = model.now();
  return finding;
}

void Detector::link(const model::Model& model, std::vector<Finding>& findings)
{
  std::vector<OpenFinding> open_findings;
  std::map<std::uint64_t, Open*> by_id;
  for (auto& [subject, open] : open_) {
    open_findings.push_back({&subject, open.id, open.members, open.processes});
    by_id[open.id] = &open;
  }
  const std::map<std::uint64_t, Links> linked = link_incidents(model, open_findings);
  const auto put = [&by_id](const Links& links, Finding& finding) {
    finding.symptom_of = links.symptom_of;
    finding.peer_finding = links.peer_finding;
    finding.symptoms.assign(links.symptoms.begin(), links.symptoms.end());
    finding.symptom_of_text.clear();
    if (links.symptom_of) {
      const Finding& cause = by_id.at(*links.symptom_of)->last;
      finding.symptom_of_text = title(cause.kind) + ' ' + cause.process.comm + '[' + std::to_string(cause.process.id.tgid) + ']';
    }
  };
  for (const auto& [id, entry] : by_id) {
    Open& open = *entry;
    const auto found = linked.find(id);
    const Links links = found != linked.end() ? found->second : Links{};
    const auto now_said = std::ranges::find_if(findings, [id = id](const Finding& finding) { return finding.id == id; });
    // That a cause or a symptom has ended is its own line.
    const bool is_new_symptom = links.symptom_of && links.symptom_of != open.links.symptom_of;
    const bool is_news = is_new_symptom || !std::ranges::includes(open.links.symptoms, links.symptoms);
    open.links = links;
    put(links, open.last);
    if (now_said != findings.end()) {
      put(links, *now_said);
    } else if (is_news) {
      Finding again = open.last;
      again.phase = Phase::Updated;
      again.sequence = ++open.sequence;
      again.time = model.last_tick_facts().wall_time;
      again.has_new_symptoms_only = !is_new_symptom;
      again.duration = model.now() - open.since;
      findings.push_back(again);
      again.has_new_symptoms_only = false;
      open.last = std::move(again);
    }
  }
}

Finding Detector::resolve(const model::Model& model, Open& open, Resolution resolution)
{
  Finding finding = std::move(open.last);
  finding.phase = Phase::Resolved;
  finding.sequence = ++open.sequence;
  finding.resolution = resolution;
  finding.time = model.last_tick_facts().wall_time;
  finding.duration = model.now() - open.since;
  finding.quality.lost_records = model.last_tick_facts().lost.total() - open.lost_at_start;
  finding.quality.unobserved = model.gaps().since(open.since);
  return finding;
}

Resolution Detector::reason_of(const model::Model& model, const Subject& subject, const Open& open) const
{
  if (has_exited(model, subject.process))
    return Resolution::ProcessExited;
  if (open.members.empty())
    return Resolution::Closed;
  const bool about_a_queue = subject.kind == Kind::SlowReader || subject.kind == Kind::StalledReader;
  if (subject.kind == Kind::RemoteSlowReader) {
    const bool any_waits = std::ranges::any_of(open.members, [&](std::uint64_t member) {
      const model::Connection* connection = model.find(member);
      return connection != nullptr && !connection->send().empty();
    });
    return any_waits ? Resolution::Subsided : Resolution::Drained;
  }
  if (subject.kind == Kind::AcceptBacklog) {
    const bool any_waits = std::ranges::any_of(open.members, [&](std::uint64_t member) {
      const model::Connection* connection = model.find(member);
      return connection != nullptr && connection->latest().ack_backlog > 0;
    });
    return any_waits ? Resolution::Subsided : Resolution::Drained;
  }
  if (subject.kind == Kind::ConnectionLeak) {
    // Those that are left are in use again, or too few.
    const auto left = std::ranges::count_if(
        open.members, [&](std::uint64_t member) { return model.pools().find(member) != nullptr; });
    return static_cast<std::uint64_t>(left) * 2 > open.said_count ? Resolution::Subsided : Resolution::Closed;
  }
  if (!about_a_queue)
    return subject.kind == Kind::CloseWait || subject.kind == Kind::FinWait2 ? Resolution::Closed : Resolution::Subsided;
  // A socket that the kernel side shows no more has an empty queue.
  const bool any_unread = std::ranges::any_of(open.members, [&](std::uint64_t member) {
    const model::Connection* connection = model.find(member);
    return connection != nullptr && connection->latest().unread_bytes > 0;
  });
  return any_unread ? Resolution::Subsided : Resolution::Drained;
}

}  // namespace laggard::detect
