// SPDX-License-Identifier: MIT
// A wait for what another process or the kernel does.
#pragma once

#include <functional>

namespace laggard::test {

inline constexpr double kDeadlineSeconds = 60;

// Until `condition` holds or the one generous deadline is over; false then. Looks 20 times a second.
bool eventually(const std::function<bool()>& condition, double seconds = kDeadlineSeconds);

}  // namespace laggard::test
