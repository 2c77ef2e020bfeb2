// SPDX-License-Identifier: MIT
// What time it is. Not in base: the pure layers get time from the tick and from nowhere else.
#pragma once

#include <time.h>

#include <functional>

#include "base/time.h"

namespace laggard::identify {

using Clock = std::function<MonoTime()>;

inline Duration clock_now(clockid_t clock)
{
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

inline MonoTime monotonic_now() { return MonoTime{clock_now(CLOCK_MONOTONIC)}; }
inline Duration process_cpu() { return clock_now(CLOCK_PROCESS_CPUTIME_ID); }
inline Duration thread_cpu() { return clock_now(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace laggard::identify
