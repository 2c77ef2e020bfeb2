// SPDX-License-Identifier: MIT
#pragma once

#include "output/metrics.h"

namespace laggard::output {

// From /proc/self, which needs no privilege; what cannot be read stays 0.
SelfUsage self_usage();

}  // namespace laggard::output
