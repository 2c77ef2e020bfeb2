// SPDX-License-Identifier: MIT
#pragma once

#include <time.h>

#include "base/time.h"

namespace laggard::source::live {

inline Duration clock_now(clockid_t clock)
{
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

inline Duration thread_cpu() { return clock_now(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace laggard::source::live
