// SPDX-License-Identifier: MIT
// What a UDP socket lost, over a window that is long enough to hold several bursts of loss.
#pragma once

#include <cstdint>
#include <vector>

#include "model/history.h"

namespace laggard::model {

class LossHistory {
 public:
  struct Burst {
    MonoTime begin;
    MonoTime end;
  };
  struct Look {
    MonoTime time;
    std::uint64_t drops = 0;    // total
    std::uint32_t arrived = 0;  // total of datagrams that were not dropped, mod 2^32
  };

  // Two losses with less than `apart` between them are one burst.
  void observe(const Look& before, const Look& now, Duration apart, Duration window);

  bool empty() const { return bursts_.empty(); }
  const std::vector<Burst>& bursts() const { return bursts_; }  // that ended within the window, oldest first
  std::uint64_t dropped() const { return looks_.empty() ? 0 : looks_.back().drops - looks_.front().drops; }
  std::uint64_t arrived() const { return looks_.empty() ? 0 : looks_.back().arrived - looks_.front().arrived; }
  Duration span() const { return looks_.empty() ? Duration{} : looks_.back().time - looks_.front().time; }
  double ratio() const;  // dropped of all that arrived meanwhile
  // 0 to 1 of all that arrived in `window`. What came before the first loss is taken to have come at the same pace.
  double share(Duration window) const;
  Duration longest_pause() const;  // between two bursts

 private:
  std::vector<Burst> bursts_;
  Looks<Look> looks_;
};

}  // namespace laggard::model
