// SPDX-License-Identifier: MIT
#include "support/eventually.h"

#include <poll.h>

#include <chrono>

namespace laggard::test {

bool eventually(const std::function<bool()>& condition, double seconds)
{
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (Clock::now() >= end)
      return false;
    ::poll(nullptr, 0, 50);
  }
  return true;
}

}  // namespace laggard::test
