// SPDX-License-Identifier: MIT
// One process over time: its memory and what it read.
#pragma once

#include <array>
#include <span>
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
    std::uint64_t turns = 0;         // see GrowthSample
    std::uint64_t answered = 0;
    bool server_side = false;
    std::uint64_t bytes() const { return kernel_bytes + user_bytes; }
  };
  std::vector<Share> sockets;
  std::uint64_t other_bytes = 0;  // with no socket
  std::uint64_t lost_bytes = 0;
  std::uint64_t reads = 0;        // of all sockets
  std::uint64_t read_bytes = 0;
  std::uint64_t client_turns = 0;    // see GrowthSample; of sockets that came from a client
  std::uint64_t client_answers = 0;
  std::uint64_t limit_bytes = 0;  // of the cgroup with the least room; 0 = none or unknown
  std::uint64_t headroom_bytes = 0;
  double net_bytes = 0;           // what the process really gained meanwhile; may be negative

  std::uint64_t socket_kernel_bytes() const;
  std::uint64_t socket_user_bytes() const;
  std::uint64_t socket_bytes() const { return socket_kernel_bytes() + socket_user_bytes(); }
  // Of them those of sockets that came from a client, and over which most of what was read was answered.
  std::uint64_t answered_bytes() const;
  bool serves_clients() const { return client_answers * 2 > client_turns; }
  std::uint64_t total_bytes() const { return socket_bytes() + other_bytes + lost_bytes; }
};

// DESIGN 5.3, stage 1: memory over a window.
struct MemoryTrend {
  Duration window{};
  bool covers_window = false;     // else everything below is about less time than the window
  double growth_bytes = 0;        // Theil-Sen slope x window
  double bytes_per_second = 0;    // the slope
  bool significant = false;       // Mann-Kendall
  bool goes_on = false;           // not only in its beginning, not only its peaks, and half of it above kHighWater
  bool rests = false;             // has not risen for more than twice as long as before between two rises
  double mapped_bytes = 0;        // what it may write grew by so much
  std::uint64_t read_bytes = 0;   // by the process, within the same looks
  double retained_ratio = 0;      // growth / read_bytes; 0 where nothing was read
  std::uint32_t new_sockets = 0;  // so many more than in the beginning
};

// ModelOptions::memory_window and longer ones, as multiples of it: what is slow, or grows in rare steps, has to be watched for
// longer. (30 s, 90 s, 5 min and 25 min. A window sees steps that are less than half of it apart; 1 MB a minute is 8 MiB in 8 min,
// and half an hour is what a person waits for.)
inline constexpr std::array<int, 4> kMemoryWindows = {1, 3, 10, 50};
// Growth counts above the highest that was in as many memory windows before: ten minutes. Over the longer windows: that was ever
// seen. Who fills and empties a chunk, or follows the day, grows once.
inline constexpr int kHighWater = 20;

class Process {
 public:
  struct Look {
    MonoTime time;
    std::uint64_t read_bytes = 0;
    std::uint32_t private_kib = 0;  // anonymous + swap
    std::uint32_t low_kib = 0;      // the least and the most of it since the look before
    std::uint32_t high_kib = 0;
    std::uint32_t shmem_kib = 0;
    std::uint32_t host_shmem_kib = 0;
    std::uint32_t all_shmem_kib = 0;  // of all processes, pages that several map as often; 0 = unknown
    std::uint32_t mapped_kib = 0;     // ProcessSample::data_bytes
    std::uint32_t sockets = 0;        // that it holds
  };

  // Fills in net_bytes.
  void attribute(Attribution attribution);
  const std::optional<Attribution>& attribution() const { return attribution_; }  // the latest
  double grown_since_attribution() const;  // in bytes; may be negative
  // Above the least that was seen of it, ever.
  double gained_bytes() const;

  void observe(const ProcessSample& sample, MonoTime now, std::uint64_t host_shmem_bytes, const ModelOptions& options,
               std::uint64_t all_shmem_bytes = 0);

  const ProcessSample& latest() const { return latest_; }
  // Its first thread was found in epoll_wait() at each look since then; unknown: it does something else now.
  MonoTime waits_since() const { return waits_since_; }
  MonoTime first_seen() const { return first_seen_; }
  // Over kMemoryWindows, as of the latest look or a thirtieth of the window before.
  const std::array<MemoryTrend, kMemoryWindows.size()>& trends() const { return trends_; }
  // Oldest first, the more closely the younger, for the longest window and what its growth has to exceed. Where nothing changes
  // there is one look at each end.
  std::span<const Look> history() const { return looks_; }

  // It has once held, read or closed a TCP or UDP socket.
  bool uses_sockets() const { return uses_sockets_; }
  void holds_sockets(std::uint32_t count);  // as of the last walk

 private:
  void remember(const Look& look, const ModelOptions& options);
  MemoryTrend trend_over(Duration window, Duration interval, const ModelOptions& options) const;

  ProcessSample latest_;
  MonoTime waits_since_;
  MonoTime first_seen_;
  bool uses_sockets_ = false;
  std::uint32_t sockets_ = 0;
  std::uint32_t forgotten_high_kib_ = 0;  // the most that was in looks that are forgotten
  std::uint32_t least_kib_ = UINT32_MAX;
  std::vector<Look> looks_;
  std::array<MemoryTrend, kMemoryWindows.size()> trends_{};
  std::array<MonoTime, kMemoryWindows.size()> trends_due_{};
  std::optional<Attribution> attribution_;
  Look attributed_;  // the look at its end
};

}  // namespace laggard::model
