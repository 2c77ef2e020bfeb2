// SPDX-License-Identifier: MIT
// Every number that decides something, with the default and the option that changes it (DESIGN section 3).
#pragma once

#include <cstdint>

#include "base/time.h"
#include "model/connection.h"

namespace laggard::detect {

struct Thresholds {
  Duration lag = std::chrono::seconds(1);             // --lag
  Duration hold = std::chrono::seconds(5);            // --hold
  double late_share = 0.5;                            // --late-share
  Duration late_window = std::chrono::seconds(30);    // --late-window
  std::uint64_t bite_bytes = 4096;                    // --bite
  Duration stall = std::chrono::seconds(10);          // --stall
  Duration leftover = std::chrono::seconds(60);       // --leftover
  Duration close_wait = std::chrono::seconds(60);     // --close-wait
  Duration fin_wait = std::chrono::seconds(60);       // --fin-wait
  Duration idle = std::chrono::seconds(30);           // --idle
  std::uint64_t leak_count = 10;                      // --leak-count
  double rwnd_share = 0.5;                            // --rwnd-share
  double drop_share = 0.01;                           // --drop-share
  Duration drop_window = std::chrono::seconds(60);    // --drop-window
  Duration dead_peer = std::chrono::seconds(15);      // --dead-peer
  std::uint64_t dead_peer_count = 10;                 // --dead-peer-count
  double dead_peer_share = 0.05;                      // --dead-peer-share
  Duration memory_window = std::chrono::seconds(30);  // --memory-window
  std::uint64_t memory_growth_bytes = 8 << 20;        // --memory-growth
  Duration attribution = std::chrono::seconds(5);     // --attribution
  double attribution_share = 0.5;                     // --attribution-share
  Duration unpaired = std::chrono::seconds(30);       // --unpaired
  std::uint64_t unpaired_count = 10;                  // --unpaired-count
};

// How far back the model has to remember.
model::ModelOptions model_options(const Thresholds& thresholds);

}  // namespace laggard::detect
