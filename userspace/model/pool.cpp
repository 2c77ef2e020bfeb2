// SPDX-License-Identifier: MIT
#include "model/pool.h"

#include <algorithm>

namespace laggard::model {
namespace {

constexpr int kLooksPerIdle = 12;  // twice as many as the live source makes: only a recording with other options has more
constexpr std::size_t kFewestLooks = 4;  // three intervals, however long they are

}  // namespace

std::uint64_t Pools::replace(const std::vector<PooledSample>& samples, MonoTime now, const ModelOptions& options,
                             const std::function<bool(const PooledSample&)>& is_server)
{
  std::uint64_t refused = 0;
  looked_ = now;
  std::unordered_map<std::uint64_t, Pooled> before;
  std::swap(before, members_);
  struct Count {
    std::uint32_t all = 0;
    std::uint32_t unused = 0;
  };
  std::map<PoolKey, Count> counts;
  for (const PooledSample& sample : samples) {
    if (is_server(sample))
      continue;
    if (members_.size() >= options.max_connections) {
      refused++;
      continue;
    }
    Pooled member;
    if (auto old = before.find(sample.cookie); old != before.end())
      member = std::move(old->second);
    member.sample = sample;
    members_.insert_or_assign(sample.cookie, std::move(member));
    Count& count = counts[key_of(sample)];
    count.all++;
    count.unused += now - sample.idle_since >= options.idle;
  }
  std::erase_if(histories_, [&](const auto& entry) {
    const auto count = counts.find(entry.first);
    return count == counts.end() || count->second.all < 2;
  });
  for (const auto& [key, count] : counts) {
    if (count.all < 2)
      continue;
    std::vector<PoolLook>& history = histories_[key];
    const std::size_t n = history.size();
    if (n >= 2 && history[n - 1].time - history[n - 2].time < options.idle / kLooksPerIdle)
      history.pop_back();
    history.push_back({now, count.unused});
    std::size_t old = 0;
    while (history.size() - old > kFewestLooks && history[old + 1].time <= now - options.idle * 3 / 2)
      old++;
    history.erase(history.begin(), history.begin() + static_cast<std::ptrdiff_t>(old));
  }
  return refused;
}

void Pools::set_holders(std::unordered_map<std::uint64_t, std::vector<ProcessId>>& holders, MonoTime now)
{
  for (auto& [cookie, member] : members_) {
    std::vector<ProcessId> found;
    if (const auto entry = holders.find(cookie); entry != holders.end())
      found = entry->second;
    std::ranges::sort(found);
    found.erase(std::unique(found.begin(), found.end()), found.end());
    if (const auto owner = std::ranges::find(found, member.sample.owner); owner != found.end())
      std::rotate(found.begin(), owner, std::next(owner));
    member.owner_alone = found.size() == 1 && found.front() == member.sample.owner;
    if (member.owner_alone)
      found = {};
    member.others = std::move(found);
    member.others.shrink_to_fit();
    member.holders_checked = now;
  }
}

const Pooled* Pools::find(std::uint64_t cookie) const
{
  const auto found = members_.find(cookie);
  return found == members_.end() ? nullptr : &found->second;
}

}  // namespace laggard::model
