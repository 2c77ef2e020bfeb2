// SPDX-License-Identifier: MIT
// One process over time: its memory and what it read.
#pragma once

#include <deque>

#include "model/connection.h"
#include "model/statistics.h"

namespace laggard::model {

class Process {
 public:
  struct Look {
    MonoTime time;
    std::uint64_t private_bytes = 0;  // anonymous + swap
    std::uint64_t shmem_bytes = 0;
    std::uint64_t host_shmem_bytes = 0;
    std::uint64_t read_bytes = 0;
  };

  void observe(const ProcessSample& sample, MonoTime now, std::uint64_t host_shmem_bytes, const ModelOptions& options);

  const ProcessSample& latest() const { return latest_; }
  // The memory window, oldest first; shorter where the process or the observer is younger.
  const std::deque<Look>& history() const { return history_; }

 private:
  ProcessSample latest_;
  std::deque<Look> history_;
};

// DESIGN 5.3, stage 1.
struct MemoryTrend {
  bool covers_window = false;     // else everything below is about less time than the window
  double growth_bytes = 0;        // Theil-Sen slope x window
  double bytes_per_second = 0;    // the slope
  bool significant = false;       // Mann-Kendall
  bool goes_on = false;           // the last third alone keeps at least half of the slope
  std::uint64_t read_bytes = 0;   // by the process, within the same looks
  double retained_ratio = 0;      // growth / read_bytes; 0 where nothing was read
};
MemoryTrend memory_trend(const Process& process, const ModelOptions& options);

}  // namespace laggard::model
