// SPDX-License-Identifier: MIT
// All sockets and processes over time. Fed with ticks, asked by rules; knows nothing of either's origin.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/connection.h"
#include "model/gaps.h"
#include "model/pool.h"
#include "model/process.h"

namespace laggard::model {

// Operations of a process, and what it read meanwhile.
struct Pair {
  PairSample latest;
  std::uint64_t read_at_match = 0;     // bytes from sockets, when one that began ended last; or when the pair was first seen
  std::uint64_t read_since_match = 0;
};

class Model {
 public:
  explicit Model(ModelOptions options) : options_(options) {}

  void apply(Tick tick);

  MonoTime now() const { return now_; }
  MonoTime started() const { return started_; }
  Duration interval() const { return interval_; }          // between the last two ticks
  const TickFacts& last_tick_facts() const { return facts_; }
  const Gaps& gaps() const { return gaps_; }
  // Where there are many sockets they are judged when a sweep has shown them, all or some for the second time, and not in between.
  bool judges_sockets() const
  {
    return facts_.swept || facts_.looked_again || (connections_.size() <= kFew && facts_.sweep_period <= interval_ * 2);
  }
  const ModelOptions& options() const { return options_; }

  const std::unordered_map<std::uint64_t, Connection>& connections() const { return connections_; }
  const std::unordered_map<ProcessId, Process>& processes() const { return processes_; }
  const Pools& pools() const { return pools_; }
  // By process and name of the pair: the latest of each.
  const std::map<std::pair<ProcessId, std::string>, Pair>& pairs() const { return pairs_; }
  const Connection* find(std::uint64_t cookie) const;
  const Process* find(ProcessId id) const;
  const Process* find_tgid(std::uint32_t tgid) const;
  // Where a process runs; of a cgroup where nobody knows the process. What is not known is empty.
  const Workload& workload_of(ProcessId id, std::uint64_t cgroup_id) const;

  // Does it hold or read a TCP or UDP socket, or has it since we look?
  bool uses_sockets(const Process& process) const;

  // Why a socket is not among the connections any more, as far as this tick knows.
  bool was_destroyed(std::uint64_t cookie) const { return destroyed_.contains(cookie); }
  bool any_destroyed() const { return !destroyed_.empty(); }

  // The other end of a connection, if it is on this host, is tracked, is the only candidate, and something waits at it: to be
  // sent, or to be read.
  const Connection* peer_of(const Connection& connection) const;

  // The endpoint that a person would name: the local one of an accepted connection or a listener, the remote one of a
  // connection that this end opened.
  bool is_server_side(const SocketSample& sample) const;

  // Forgets the least important connections of more than ModelOptions::max_connections, those that have waited for the shortest
  // time first, and none that `is_named`.
  void shed(const std::function<bool(std::uint64_t cookie)>& is_named);
  std::uint64_t evicted() const { return evicted_; }

 private:
  // Beyond so many connections what costs as much as there are of them waits for the next sweep, which is as rare as it is dear.
  static constexpr std::size_t kFew = 2000;

  void apply_sockets(Tick& tick);
  void note_listener(const Connection& connection);
  void apply_pools(Tick& tick);
  void apply_holders(Tick& tick);
  void add_holders(std::span<const Holder> holders);
  void apply_processes(const Tick& tick);
  void apply_growths(const Tick& tick);
  void apply_pairs(const Tick& tick);
  void apply_workloads(const Tick& tick);
  void look_over_all(const Tick& tick);
  void set_holders(Connection& connection, std::vector<ProcessId> processes);
  void count_evicted(std::uint64_t cookie);

  ModelOptions options_;
  MonoTime now_;
  MonoTime started_;
  Duration interval_{};
  TickFacts facts_;
  Gaps gaps_;
  std::unordered_map<std::uint64_t, Connection> connections_;
  Pools pools_;
  std::map<std::pair<ProcessId, std::string>, Pair> pairs_;
  std::unordered_map<ProcessId, Process> processes_;
  std::unordered_map<ProcessId, Workload> workloads_;
  std::unordered_map<std::uint64_t, Workload> cgroup_workloads_;  // by cgroup id
  std::unordered_map<std::uint32_t, ProcessId> by_tgid_;
  std::unordered_map<ProcessId, std::uint32_t> sockets_held_;  // as of the last walk
  // Of a walk that takes many ticks.
  std::vector<Holder> held_;
  bool too_many_held_ = false;
  std::vector<PooledSample> pooled_;
  MonoTime walked_holders_;  // when the last one ended
  std::unordered_set<std::uint64_t> destroyed_;
  std::set<std::pair<std::uint32_t, std::uint16_t>> listeners_;  // (netns, port)
  std::vector<std::pair<std::size_t, std::uint64_t>> ends_;  // TCP connections where something waits: hash of the tuple, cookie; sorted
  std::unordered_set<ProcessId> holders_;  // of any connection
  std::uint32_t tick_ = 0;
  std::uint64_t evicted_ = 0;
  std::unordered_set<std::uint64_t> evicted_cookies_;  // the latest: one that comes again is counted once
};

}  // namespace laggard::model
