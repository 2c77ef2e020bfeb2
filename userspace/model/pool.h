// SPDX-License-Identifier: MIT
// Connections that this host opened, that were used and have nothing to do now: all of them, as of the last look, and how
// many of them stood unused at the looks before. The sweep does not show idle sockets and the model forgets them, so this is a
// compact table of its own: under 200 bytes a connection.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/connection.h"

namespace laggard::model {

struct Pooled {
  PooledSample sample;
  MonoTime holders_checked;  // unknown: never walked since we know it

  // All processes that hold it; the one that connected may have forked and closed.
  std::span<const ProcessId> holders() const
  {
    return owner_alone ? std::span(&sample.owner, 1) : std::span<const ProcessId>(others);
  }
  ProcessId process() const { return holders().empty() ? sample.owner : holders().front(); }

  std::vector<ProcessId> others;  // holders, unless it is the owner alone: then nothing is allocated
  bool owner_alone = false;
};

// What one person would fix in one place.
struct PoolKey {
  ProcessId owner;  // who connected
  std::uint32_t netns = 0;
  Endpoint remote;
  auto operator<=>(const PoolKey&) const = default;
};

struct PoolLook {
  MonoTime time;
  std::uint32_t unused = 0;  // idle for ModelOptions::idle or longer
};

class Pools {
 public:
  // Everything that is idle now. `is_server`: this end was connected to, as far as anybody can tell. Returns how many did not
  // fit into ModelOptions::max_connections.
  std::uint64_t replace(const std::vector<PooledSample>& samples, MonoTime now, const ModelOptions& options,
                        const std::function<bool(const PooledSample&)>& is_server);
  void forget(std::uint64_t cookie) { members_.erase(cookie); }
  // `holders` of each cookie that has any.
  void set_holders(std::unordered_map<std::uint64_t, std::vector<ProcessId>>& holders, MonoTime now);

  MonoTime looked() const { return looked_; }  // unknown: never
  const Pooled* find(std::uint64_t cookie) const;
  const std::unordered_map<std::uint64_t, Pooled>& members() const { return members_; }
  // One and a half times ModelOptions::idle and the look before it, at least three intervals, of pools of two connections or
  // more.
  const std::map<PoolKey, std::vector<PoolLook>>& histories() const { return histories_; }
  static PoolKey key_of(const PooledSample& sample) { return {sample.owner, sample.netns, sample.tuple.peer}; }

 private:
  MonoTime looked_;
  std::unordered_map<std::uint64_t, Pooled> members_;
  std::map<PoolKey, std::vector<PoolLook>> histories_;
};

}  // namespace laggard::model
