// SPDX-License-Identifier: MIT
// Time as data. Nothing here can ask what time it is.
#pragma once

#include <chrono>
#include <cstdint>

namespace laggard {

using Duration = std::chrono::nanoseconds;

// CLOCK_MONOTONIC. It has no now(): the pure layers get time from the tick and from nowhere else.
struct MonoClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonoClock>;
  static constexpr bool is_steady = true;
};
using MonoTime = MonoClock::time_point;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;  // UTC

inline double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
inline MonoTime mono_time(std::uint64_t ns) { return MonoTime{Duration{static_cast<std::int64_t>(ns)}}; }
inline bool known(MonoTime time) { return time != MonoTime{}; }

}  // namespace laggard
