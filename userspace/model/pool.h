// SPDX-License-Identifier: MIT
// Sockets that were used and have nothing to do now: all of them, as of the last look, and how many of them stood unused at the
// looks before. The sweep does not show idle sockets and the model forgets them, so this is a compact table of its own: under
// 200 bytes a socket.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/connection.h"

namespace laggard::model {

// How a process came to a socket: it connected, it accepted, or it is a datagram socket.
enum class Role : std::uint8_t { Opened, Accepted, Udp };

struct Pooled {
  PooledSample sample;
  MonoTime holders_checked;  // unknown: never walked since we know it

  // All processes that hold it; the one that connected may have forked and closed.
  std::span<const ProcessId> holders() const
  {
    return owner_alone ? std::span(&sample.owner, 1) : std::span<const ProcessId>(others);
  }
  ProcessId process() const { return holders().empty() ? sample.owner : holders().front(); }
  // It had been silent for a third of ModelOptions::idle or longer, and then something came or went again: somebody reuses it,
  // or listens to it.
  bool is_in_use() const { return longest_silence > Duration{}; }
  // Left alone, as far as anybody can tell. What a process of this host keeps at the other end is for that one to close.
  bool may_be_forgotten() const { return !is_in_use() && peer == 0; }

  std::vector<ProcessId> others;  // holders, unless it is the owner alone: then nothing is allocated
  Duration longest_silence{};     // of those that ended
  std::uint64_t peer = 0;         // accepted: cookie of the other end, where a process of this host holds it
  Role role = Role::Opened;
  bool owner_alone = false;
};

// Sockets that may stand for each other: of one process and role, and to one endpoint. Without an endpoint: all of the role.
struct PoolKey {
  ProcessId owner;
  std::uint32_t netns = 0;
  Role role = Role::Opened;
  std::optional<Endpoint> endpoint;  // the remote one; accepted: the port that was connected to
  auto operator<=>(const PoolKey&) const = default;
};

struct PoolLook {
  MonoTime time;
  std::uint32_t unused = 0;  // may be forgotten, and idle for ModelOptions::idle or longer
  std::uint32_t left = 0;    // total of unused ones that were closed or came to use again
};

struct PoolHistory {
  Looks<PoolLook> looks;
  std::uint32_t left = 0;
  std::uint32_t members = 0;         // as of the last look
  std::uint32_t in_use = 0;          // of them
  Duration longest_silence{};        // that one of them ended
};

class Pools {
 public:
  // What the pools cannot see themselves.
  struct Elsewhere {
    std::function<bool(const PooledSample&)> is_server;  // this end was connected to, as far as anybody can tell
    std::function<bool(std::uint64_t)> is_busy;          // open, and has something to do
  };
  // Everything that is idle now. Returns how many did not fit: more than four times ModelOptions::max_connections.
  std::uint64_t replace(const std::vector<PooledSample>& samples, MonoTime now, const ModelOptions& options,
                        const Elsewhere& elsewhere);
  void forget(std::uint64_t cookie, const ModelOptions& options);
  // Sorted; of those that were not set at `now`, nobody is one.
  void set_holders(std::uint64_t cookie, const std::vector<ProcessId>& holders, MonoTime now);
  void forget_holders(MonoTime now);

  MonoTime looked() const { return looked_; }  // unknown: never
  const Pooled* find(std::uint64_t cookie) const;
  const std::unordered_map<std::uint64_t, Pooled>& members() const { return members_; }
  // Three times ModelOptions::idle and the look before it, at least three intervals, of pools of two sockets or more.
  const std::map<PoolKey, PoolHistory>& histories() const { return histories_; }
  static PoolKey key_of(const Pooled& member);
  static PoolKey role_of(const Pooled& member);  // without the endpoint
  // Accepted connections with nothing to do, at this local endpoint; * is every address.
  std::uint64_t accepted_at(std::uint32_t netns, const Endpoint& local) const;

 private:
  bool is_unused(const Pooled& member, const ModelOptions& options) const;
  void leaves(const Pooled& member, const ModelOptions& options);

  MonoTime looked_;
  std::unordered_map<std::uint64_t, Pooled> members_;
  std::map<PoolKey, PoolHistory> histories_;
};

}  // namespace laggard::model
