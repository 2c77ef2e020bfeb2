// SPDX-License-Identifier: MIT
#include "model/model.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <tuple>
#include <utility>

namespace laggard::model {
namespace {

// Workloads of exited processes, and of cgroups, whose sockets are still there.
constexpr std::size_t kMaxOrphans = 1U << 12;
// Where there are more than enough, the new ones of a look are let in, so that shed() can choose.
constexpr std::size_t kSpare = 8;
// Of a walk that takes many ticks: a recording may hold one that never ends.
constexpr std::size_t kHeldPerConnection = 4;
// Pairs are told with every tick, or as often as --max-cpu allows.
constexpr Duration kPairForgotten = std::chrono::seconds(30);

// An announcement and the sweep of one socket tell different things, and each record has its own time: the announcement of an
// epoch that ended comes before what the next one shows, wherever the two stand in the tick. Nearly always sorted already.
std::vector<const FullSample*> oldest_first(const std::vector<FullSample>& samples)
{
  std::vector<const FullSample*> sorted;
  sorted.reserve(samples.size());
  for (const FullSample& sample : samples)
    sorted.push_back(&sample);
  const auto when = [](const FullSample* sample) { return std::tuple(sample->time, sample->read_epoch, sample->cookie); };
  if (!std::ranges::is_sorted(sorted, {}, when))
    std::ranges::stable_sort(sorted, {}, when);
  return sorted;
}

std::size_t hash_of(const Tuple& tuple)
{
  struct {
    std::uint64_t words[4];
    std::uint64_t ports;
  } key{};
  std::memcpy(key.words, tuple.local.address.bytes.data(), 16);
  std::memcpy(key.words + 2, tuple.peer.address.bytes.data(), 16);
  key.ports = std::uint64_t{tuple.local.port} << 16 | tuple.peer.port;
  std::size_t hash = key.ports;
  for (const std::uint64_t word : key.words)
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 32;
}

template <class T>
void move_to_end(std::vector<T>& from, std::vector<T>& to)
{
  if (to.empty())
    to.swap(from);
  else
    to.insert(to.end(), std::move_iterator(from.begin()), std::move_iterator(from.end()));
}

// How long something has waited at it.
Duration importance_of(const Connection& connection, MonoTime now)
{
  const SocketSample& sample = connection.latest();
  if (sample.is_listener())
    return Duration::max();
  Duration longest = std::max(connection.receive().lag(now), connection.send().lag(now));
  if (sample.peer_closed || sample.is_ended() || sample.state == TcpState::FinWait2 || !connection.losses().empty())
    longest = std::max(longest, now - connection.first_seen());
  return longest;
}

}  // namespace

void Model::apply(Tick tick)
{
  if (!known(started_))
    started_ = tick.time;
  else
    interval_ = tick.time - now_;
  if (interval_ > Duration{})
    gaps_.observe(now_, tick.time, tick.meant_interval);
  now_ = tick.time;
  facts_ = tick;
  tick_++;

  apply_sockets(tick);
  apply_pools(tick);
  apply_holders(tick);
  apply_processes(tick);
  apply_growths(tick);
  apply_pairs(tick);
  apply_workloads(tick);
  if (judges_sockets() || tick.walked_holders)
    look_over_all(tick);
}

void Model::apply_sockets(Tick& tick)
{
  std::vector<Connection*> shown;
  const auto show = [&](Connection& connection) {
    if (std::exchange(connection.shown_in, tick_) != tick_)
      shown.push_back(&connection);
  };
  for (const FullSample* const one : oldest_first(tick.sockets)) {
    const FullSample& sample = *one;
    auto known = connections_.find(sample.cookie);
    if (known == connections_.end()) {
      if (connections_.size() >= options_.max_connections + options_.max_connections / kSpare) {
        count_evicted(sample.cookie);
        continue;
      }
      known = connections_.try_emplace(sample.cookie).first;
    }
    show(known->second);
    // An announcement and the sweep of the tick before can cross: never go back in time.
    if (sample.time >= known->second.latest().time)
      known->second.observe(sample, options_);
  }
  for (const StillSample& sample : tick.still) {
    const auto known = connections_.find(sample.cookie);
    if (known == connections_.end())
      continue;
    show(known->second);
    if (sample.time >= known->second.latest().time)
      known->second.observe_still(sample.time, options_);
  }
  destroyed_ = {tick.gone.begin(), tick.gone.end()};
  if (tick.swept)
    listeners_.clear();
  else
    for (Connection* connection : shown) {
      note_listener(*connection);
      connection->end_tick(options_);
    }
  // The kernel side shows every socket about which there is something to say; of the others it is enough to forget. One that
  // loses its datagrams or is late in bursts is shown when they come, and drained and not shown in between.
  for (auto entry = connections_.begin(); tick.swept && entry != connections_.end();) {
    Connection& connection = entry->second;
    const bool is_shown = connection.shown_in == tick_ || (known(tick.swept_from) && connection.last_shown() >= tick.swept_from);
    if (!is_shown && !connection.outlives_absence(options_)) {
      entry = connections_.erase(entry);
      continue;
    }
    if (!is_shown)
      connection.observe_absence(now_, options_);
    note_listener(connection);
    connection.end_tick(options_);
    ++entry;
  }
  for (const std::uint64_t cookie : tick.gone)
    connections_.erase(cookie);
}

void Model::note_listener(const Connection& connection)
{
  if (connection.latest().is_listener())
    listeners_.insert({connection.latest().netns, connection.latest().tuple.local.port});
}

void Model::apply_pools(Tick& tick)
{
  for (std::uint64_t cookie : tick.gone)
    pools_.forget(cookie, options_);
  if (pooled_.size() < options_.max_connections)
    move_to_end(tick.pooled, pooled_);
  if (!tick.looked_at_pools)
    return;
  evicted_ += pools_.replace(std::exchange(pooled_, {}), now_, options_,
                             {.is_server =
                                  [this](const PooledSample& sample) {
                                    return !sample.connected && listeners_.contains({sample.netns, sample.tuple.local.port});
                                  },
                              .is_busy =
                                  [this](std::uint64_t cookie) {
                                    const Connection* connection = find(cookie);
                                    return connection != nullptr && connection->latest().has_file &&
                                           (connection->latest().transport == Transport::Udp ||
                                            connection->latest().state == TcpState::Established);
                                  }});
}

void Model::apply_holders(Tick& tick)
{
  if (!tick.walked_holders) {
    add_holders(tick.holders);
    if (held_.size() < options_.max_connections * kHeldPerConnection)
      move_to_end(tick.holders, held_);
    else
      too_many_held_ = true;
    return;
  }
  walked_holders_ = now_;
  if (std::exchange(too_many_held_, false)) {
    held_.clear();
    tick.walked_holders = false;  // what is known of some says nothing of the others
    return;
  }
  move_to_end(tick.holders, held_);
  std::vector<Holder> holders = std::exchange(held_, {});
  std::ranges::sort(holders, {}, [](const Holder& holder) { return std::tuple(holder.cookie, holder.process); });
  sockets_held_.clear();
  for (const Holder& holder : holders)
    sockets_held_[holder.process]++;
  for (auto first = holders.begin(); first != holders.end();) {
    const std::uint64_t cookie = first->cookie;
    const auto last = std::find_if(first, holders.end(), [cookie](const Holder& holder) { return holder.cookie != cookie; });
    const auto connection = connections_.find(cookie);
    if (connection != connections_.end() || pools_.find(cookie) != nullptr) {
      std::vector<ProcessId> processes;
      for (; first != last; ++first)
        if (processes.empty() || processes.back() != first->process)
          processes.push_back(first->process);
      pools_.set_holders(cookie, processes, now_);
      if (connection != connections_.end())
        set_holders(connection->second, std::move(processes));
    }
    first = last;
  }
  pools_.forget_holders(now_);
}

// As far as a walk has come: those of one socket that it met before stay.
void Model::add_holders(std::span<const Holder> holders)
{
  for (const Holder& holder : holders) {
    const auto known = connections_.find(holder.cookie);
    if (known == connections_.end())
      continue;
    Connection& connection = known->second;
    std::vector<ProcessId> all;
    if (connection.holders_checked() > walked_holders_)
      all.assign(connection.holders().begin(), connection.holders().end());
    if (std::ranges::find(all, holder.process) == all.end())
      all.push_back(holder.process);
    std::ranges::sort(all);
    set_holders(connection, std::move(all));
  }
}

// The one who reads comes first, else the one who opened it, else the lowest pid. Workers that share a socket take turns in
// reading: who was first stays so.
void Model::set_holders(Connection& connection, std::vector<ProcessId> processes)
{
  const SocketSample& latest = connection.latest();
  const auto reader = std::ranges::find(processes, latest.reader_tgid, &ProcessId::tgid);
  auto first = std::ranges::find(processes, connection.process());
  const bool stays = first != processes.end() && connection.first_holder_reads();
  if (!stays && reader != processes.end())
    first = reader;
  if (first == processes.end())
    first = std::ranges::find(processes, latest.owner);
  if (first != processes.end())
    std::rotate(processes.begin(), first, std::next(first));
  const bool reads = stays || reader != processes.end();
  connection.set_holders(std::move(processes), reads, now_);
}

void Model::apply_processes(const Tick& tick)
{
  if (!tick.walked_processes)
    return;
  std::unordered_set<ProcessId> present;
  by_tgid_.clear();
  std::uint64_t all_shmem_bytes = 0;
  for (const ProcessSample& sample : tick.processes)
    all_shmem_bytes += sample.shmem_bytes;
  for (const ProcessSample& sample : tick.processes) {
    present.insert(sample.id);
    by_tgid_[sample.id.tgid] = sample.id;
    Process& process = processes_[sample.id];
    const auto held = sockets_held_.find(sample.id);
    process.holds_sockets(held != sockets_held_.end() ? held->second : 0);
    process.observe(sample, now_, tick.host_shmem_bytes, options_, all_shmem_bytes);
  }
  std::erase_if(processes_, [&](const auto& entry) { return !present.contains(entry.first); });
}

void Model::apply_pairs(const Tick& tick)
{
  for (const PairSample& sample : tick.pairs) {
    const Process* process = find(sample.process);
    const std::uint64_t read = process != nullptr ? process->latest().read_bytes : 0;
    Pair& pair = pairs_.try_emplace({sample.process, sample.name}, Pair{sample, read}).first->second;
    // A total that fell was forgotten by the kernel side and started again.
    if (pair.latest.last_match != sample.last_match || read < pair.read_at_match)
      pair.read_at_match = read;
    pair.latest = sample;
    pair.read_since_match = read - pair.read_at_match;
  }
  // Its process has exited, or its probes are detached.
  std::erase_if(pairs_, [this](const auto& entry) { return now_ - entry.second.latest.time > kPairForgotten; });
}

void Model::apply_workloads(const Tick& tick)
{
  for (const WorkloadSample& sample : tick.workloads) {
    if (sample.process)
      workloads_.insert_or_assign(sample.process, sample.workload);
    else if (cgroup_workloads_.size() < kMaxOrphans || cgroup_workloads_.contains(sample.cgroup_id))
      cgroup_workloads_.insert_or_assign(sample.cgroup_id, sample.workload);
  }
  // One that has exited may still have sockets.
  if (tick.walked_processes && workloads_.size() > processes_.size() + kMaxOrphans)
    std::erase_if(workloads_, [this](const auto& entry) { return !processes_.contains(entry.first); });
}

const Workload& Model::workload_of(ProcessId id, std::uint64_t cgroup_id) const
{
  static const Workload kUnknown;
  if (const auto found = workloads_.find(id); found != workloads_.end())
    return found->second;
  const auto found = id ? cgroup_workloads_.end() : cgroup_workloads_.find(cgroup_id);
  return found != cgroup_workloads_.end() ? found->second : kUnknown;
}

void Model::apply_growths(const Tick& tick)
{
  std::map<ProcessId, Attribution> attributions;
  for (const GrowthSample& sample : tick.growths) {
    Attribution& attribution = attributions[sample.process];
    attribution.begin = sample.begin;
    attribution.end = sample.end;
    attribution.complete = sample.complete;
    attribution.lost_bytes = sample.lost_bytes;
    attribution.limit_bytes = sample.limit_bytes;
    attribution.headroom_bytes = sample.headroom_bytes;
    attribution.reads += sample.reads;
    attribution.read_bytes += sample.read_bytes;
    const auto count_turns = [&] {
      attribution.client_turns += sample.turns;
      attribution.client_answers += sample.answered;
    };
    if (sample.cookie == 0) {
      count_turns();
      attribution.other_bytes += sample.kernel_bytes + sample.user_bytes;
      continue;
    }
    const Connection* connection = find(sample.cookie);
    Attribution::Share& share = attribution.sockets.emplace_back();
    share.cookie = sample.cookie;
    share.kernel_bytes = sample.kernel_bytes;
    share.user_bytes = sample.user_bytes;
    share.turns = sample.turns;
    share.answered = sample.answered;
    const Pooled* idle = pools_.find(sample.cookie);
    share.server_side = sample.accepted || (connection != nullptr && is_server_side(connection->latest())) ||
                        (idle != nullptr && idle->role == Role::Accepted);
    if (share.server_side)
      count_turns();
    if (connection != nullptr)
      share.tuple = connection->latest().tuple;
    else if (idle != nullptr)
      share.tuple = idle->sample.tuple;
  }
  for (auto& [id, attribution] : attributions)
    if (auto process = processes_.find(id); process != processes_.end())
      process->second.attribute(std::move(attribution));
}

void Model::shed(const std::function<bool(std::uint64_t cookie)>& is_named)
{
  if (connections_.size() <= options_.max_connections)
    return;
  std::vector<std::pair<Duration, std::uint64_t>> unnamed;
  for (const auto& [cookie, connection] : connections_)
    if (!is_named(cookie))
      unnamed.emplace_back(importance_of(connection, now_), cookie);
  const std::size_t surplus = std::min(connections_.size() - options_.max_connections, unnamed.size());
  std::ranges::nth_element(unnamed, unnamed.begin() + static_cast<std::ptrdiff_t>(surplus));
  for (std::size_t i = 0; i < surplus; i++) {
    connections_.erase(unnamed[i].second);
    count_evicted(unnamed[i].second);
  }
}

void Model::count_evicted(std::uint64_t cookie)
{
  if (evicted_cookies_.size() >= options_.max_connections)
    evicted_cookies_.clear();
  evicted_ += evicted_cookies_.insert(cookie).second;
}

// All in one pass: where there are 120 000 connections, reaching one costs more than what is done with it.
void Model::look_over_all(const Tick& tick)
{
  const bool indexes = judges_sockets();
  if (indexes) {
    ends_.clear();
    holders_.clear();
  }
  for (auto entry = connections_.begin(); entry != connections_.end();) {
    Connection& connection = entry->second;
    if (tick.walked_holders && connection.holders_checked() != now_)
      set_holders(connection, {});
    // UDP has no hook at its end: a socket that a sweep does not show ended with the process that held it.
    if (indexes && tick.walked_processes && connection.is_absent() && connection.process() && find(connection.process()) == nullptr) {
      entry = connections_.erase(entry);
      continue;
    }
    if (indexes) {
      holders_.insert(connection.process());
      if (connection.latest().transport == Transport::Tcp && (!connection.send().empty() || known(connection.standing_since())))
        ends_.emplace_back(hash_of(connection.latest().tuple), entry->first);
    }
    ++entry;
  }
  if (indexes)
    std::ranges::sort(ends_);
}

const Connection* Model::find(std::uint64_t cookie) const
{
  auto found = connections_.find(cookie);
  return found == connections_.end() ? nullptr : &found->second;
}

const Process* Model::find(ProcessId id) const
{
  auto found = processes_.find(id);
  return found == processes_.end() ? nullptr : &found->second;
}

const Process* Model::find_tgid(std::uint32_t tgid) const
{
  auto found = by_tgid_.find(tgid);
  return found == by_tgid_.end() ? nullptr : find(found->second);
}

bool Model::uses_sockets(const Process& process) const
{
  return process.uses_sockets() || holders_.contains(process.latest().id);
}

const Connection* Model::peer_of(const Connection& connection) const
{
  const SocketSample& end = connection.latest();
  if (end.transport != Transport::Tcp)
    return nullptr;
  const Connection* elsewhere = nullptr;
  int others = 0;
  const Tuple wanted = end.tuple.reversed();
  const std::size_t hash = hash_of(wanted);
  for (auto it = std::ranges::lower_bound(ends_, std::pair(hash, std::uint64_t{0})); it != ends_.end() && it->first == hash; ++it) {
    const Connection* candidate = find(it->second);
    if (candidate == nullptr || candidate->latest().tuple != wanted)
      continue;
    if (candidate->latest().netns == end.netns)
      return candidate;
    elsewhere = candidate;
    others++;
  }
  // Loopback addresses mean something within one namespace only; other addresses may repeat between containers.
  const std::uint8_t first = end.tuple.local.address.bytes[0];
  const bool loopback = end.tuple.local.address.is_ipv6 ? to_string(end.tuple.local.address) == "::1" : first == 127;
  return others == 1 && !loopback ? elsewhere : nullptr;
}

bool Model::is_server_side(const SocketSample& sample) const
{
  if (sample.accepted || sample.is_listener())
    return true;
  if (sample.connected)
    return false;
  return listeners_.contains({sample.netns, sample.tuple.local.port});
}

}  // namespace laggard::model
