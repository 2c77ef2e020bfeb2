// SPDX-License-Identifier: MIT
// One process over time: its memory and what it read.
#pragma once

#include <deque>
#include <vector>

#include "model/connection.h"
#include "model/statistics.h"

namespace laggard::model {

// With what the memory of a process grew, over some seconds.
struct Attribution {
  MonoTime begin;
  MonoTime end;
  bool complete = false;  // observed for as long as was asked for
  struct Share {
    std::uint64_t cookie = 0;
    std::optional<Tuple> tuple;      // absent: the socket was not known any more
    std::uint64_t kernel_bytes = 0;  // filled by the kernel while it copied out of the socket
    std::uint64_t user_bytes = 0;    // touched by a thread whose last read was of the socket
  };
  std::vector<Share> sockets;
  std::uint64_t other_bytes = 0;  // with no socket
  std::uint64_t lost_bytes = 0;
  std::uint64_t limit_bytes = 0;  // of the cgroup with the least room; 0 = none or unknown
  std::uint64_t headroom_bytes = 0;
  double net_bytes = 0;           // what the process really gained meanwhile; may be negative

  std::uint64_t socket_kernel_bytes() const;
  std::uint64_t socket_user_bytes() const;
  std::uint64_t socket_bytes() const { return socket_kernel_bytes() + socket_user_bytes(); }
  std::uint64_t total_bytes() const { return socket_bytes() + other_bytes + lost_bytes; }
};

class Process {
 public:
  struct Look {
    MonoTime time;
    std::uint64_t private_bytes = 0;  // anonymous + swap
    std::uint64_t shmem_bytes = 0;
    std::uint64_t host_shmem_bytes = 0;
    std::uint64_t all_shmem_bytes = 0;  // of all processes, pages that several map as often; 0 = unknown
    std::uint64_t read_bytes = 0;
  };

  // Fills in net_bytes.
  void attribute(Attribution attribution);
  const std::optional<Attribution>& attribution() const { return attribution_; }  // the latest
  double grown_since_attribution() const;  // in bytes; may be negative

  void observe(const ProcessSample& sample, MonoTime now, std::uint64_t host_shmem_bytes, const ModelOptions& options,
               std::uint64_t all_shmem_bytes = 0);

  const ProcessSample& latest() const { return latest_; }
  // Its first thread was found in epoll_wait() at each look since then; unknown: it does something else now.
  MonoTime waits_since() const { return waits_since_; }
  // The memory window, oldest first; shorter where the process or the observer is younger.
  const std::deque<Look>& history() const { return history_; }

 private:
  ProcessSample latest_;
  MonoTime waits_since_;
  std::deque<Look> history_;
  // The memory window once more, the more closely the younger: history_ is too coarse for what an attribution began with.
  std::vector<Look> recent_;
  std::optional<Attribution> attribution_;
  Look attributed_;  // the look at its end
};

// DESIGN 5.3, stage 1.
struct MemoryTrend {
  bool covers_window = false;     // else everything below is about less time than the window
  double growth_bytes = 0;        // Theil-Sen slope x window
  double bytes_per_second = 0;    // the slope
  bool significant = false;       // Mann-Kendall
  bool goes_on = false;           // the last third alone keeps at least half of the slope, and the floor rises with it
  std::uint64_t read_bytes = 0;   // by the process, within the same looks
  double retained_ratio = 0;      // growth / read_bytes; 0 where nothing was read
};
MemoryTrend memory_trend(const Process& process, const ModelOptions& options);

}  // namespace laggard::model
