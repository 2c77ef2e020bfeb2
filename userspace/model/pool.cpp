// SPDX-License-Identifier: MIT
#include "model/pool.h"

#include <algorithm>

namespace laggard::model {
namespace {

constexpr int kIdlesKept = 3;
constexpr std::size_t kIdlePerConnection = 4;  // they take a fifth of the memory
// Twice as many for an idle time as the live source makes: only a recording with other options has more.
constexpr int kLooksPerIdle = 12;
constexpr std::size_t kFewestLooks = 4;  // three intervals, however long they are
constexpr int kSilence = 3;  // a third of the idle time: a pause between two answers is shorter, or not worth a finding

Role role_of_sample(const PooledSample& sample, const Pools::Elsewhere& elsewhere)
{
  if (sample.transport == Transport::Udp)
    return Role::Udp;
  return sample.accepted || elsewhere.is_server(sample) ? Role::Accepted : Role::Opened;
}

// Sorted ends of connections that processes of this host opened, with their cookies.
std::vector<std::pair<Tuple, std::uint64_t>> opened_here(const std::vector<PooledSample>& samples)
{
  std::vector<std::pair<Tuple, std::uint64_t>> ends;
  for (const PooledSample& sample : samples)
    if (!sample.accepted && sample.transport == Transport::Tcp)
      ends.emplace_back(sample.tuple, sample.cookie);
  std::ranges::sort(ends);
  return ends;
}

std::uint64_t peer_of(const std::vector<std::pair<Tuple, std::uint64_t>>& ends, const Tuple& tuple)
{
  const auto found = std::ranges::lower_bound(ends, tuple.reversed(), {}, [](const auto& end) { return end.first; });
  return found != ends.end() && found->first == tuple.reversed() ? found->second : 0;
}

}  // namespace

PoolKey Pools::key_of(const Pooled& member)
{
  PoolKey key = role_of(member);
  key.endpoint = member.role == Role::Accepted ? Endpoint{{}, member.sample.tuple.local.port} : member.sample.tuple.peer;
  return key;
}

PoolKey Pools::role_of(const Pooled& member) { return {member.sample.owner, member.sample.netns, member.role, std::nullopt}; }

bool Pools::is_unused(const Pooled& member, const ModelOptions& options) const
{
  return member.may_be_forgotten() && looked_ - member.sample.idle_since >= options.idle;
}

void Pools::leaves(const Pooled& member, const ModelOptions& options)
{
  if (!is_unused(member, options))
    return;
  for (const PoolKey& key : {key_of(member), role_of(member)})
    if (const auto history = histories_.find(key); history != histories_.end())
      history->second.left++;
}

void Pools::forget(std::uint64_t cookie, const ModelOptions& options)
{
  if (const auto member = members_.find(cookie); member != members_.end()) {
    leaves(member->second, options);
    members_.erase(member);
  }
}

std::uint64_t Pools::replace(const std::vector<PooledSample>& samples, MonoTime now, const ModelOptions& options,
                             const Elsewhere& elsewhere)
{
  std::uint64_t refused = 0;
  std::unordered_map<std::uint64_t, Pooled> before;
  std::swap(before, members_);
  const auto here = opened_here(samples);
  for (const PooledSample& sample : samples) {
    if (members_.size() >= options.max_connections * kIdlePerConnection) {
      refused++;
      continue;
    }
    Pooled member;
    if (const auto old = before.find(sample.cookie); old != before.end()) {
      const Duration silence = sample.idle_since - old->second.sample.idle_since;
      if (silence >= options.idle / kSilence) {
        leaves(old->second, options);
        old->second.longest_silence = std::max(old->second.longest_silence, silence);
      }
      member = std::move(old->second);
      before.erase(old);
    }
    member.sample = sample;
    member.role = role_of_sample(sample, elsewhere);
    member.peer = member.role == Role::Accepted ? peer_of(here, sample.tuple) : 0;
    members_.insert_or_assign(sample.cookie, std::move(member));
  }
  // The rest has something to do at this moment, or is closed.
  for (auto& [cookie, member] : before) {
    const Duration silence = now - member.sample.idle_since;
    if (silence >= options.idle / kSilence)
      leaves(member, options);
    if (!elsewhere.is_busy(cookie))
      continue;
    if (silence >= options.idle / kSilence)
      member.longest_silence = std::max(member.longest_silence, silence);
    member.sample.idle_since = now;
    members_.insert_or_assign(cookie, std::move(member));
  }

  looked_ = now;
  for (auto& [key, history] : histories_)
    history.members = history.in_use = 0, history.longest_silence = {};
  std::map<PoolKey, std::uint32_t> unused;
  for (const auto& [cookie, member] : members_)
    for (const PoolKey& key : {key_of(member), role_of(member)}) {
      PoolHistory& history = histories_[key];
      history.members++;
      history.in_use += member.is_in_use();
      history.longest_silence = std::max(history.longest_silence, member.longest_silence);
      if (is_unused(member, options))
        unused[key]++;
    }
  std::erase_if(histories_, [](const auto& entry) { return entry.second.members < 2; });
  for (auto& [key, history] : histories_)
    history.looks.add({now, unused[key], history.left}, options.idle * kIdlesKept, options.idle / kLooksPerIdle, kFewestLooks);
  return refused;
}

void Pools::set_holders(std::uint64_t cookie, const std::vector<ProcessId>& holders, MonoTime now)
{
  const auto found = members_.find(cookie);
  if (found == members_.end())
    return;
  Pooled& member = found->second;
  member.holders_checked = now;
  member.owner_alone = holders.size() == 1 && holders.front() == member.sample.owner;
  member.others = member.owner_alone ? std::vector<ProcessId>{} : holders;
  if (const auto owner = std::ranges::find(member.others, member.sample.owner); owner != member.others.end())
    std::rotate(member.others.begin(), owner, std::next(owner));
}

void Pools::forget_holders(MonoTime now)
{
  for (auto& [cookie, member] : members_)
    if (member.holders_checked != now) {
      member.holders_checked = now;
      member.owner_alone = false;
      member.others = {};
    }
}

const Pooled* Pools::find(std::uint64_t cookie) const
{
  const auto found = members_.find(cookie);
  return found == members_.end() ? nullptr : &found->second;
}

std::uint64_t Pools::accepted_at(std::uint32_t netns, const Endpoint& local) const
{
  return static_cast<std::uint64_t>(std::ranges::count_if(members_, [&](const auto& entry) {
    const Pooled& member = entry.second;
    return member.role == Role::Accepted && member.sample.netns == netns && member.sample.tuple.local.port == local.port;
  }));
}

}  // namespace laggard::model
