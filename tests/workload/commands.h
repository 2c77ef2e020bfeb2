// SPDX-License-Identifier: MIT
// Commands that act on the first socket or its peer, one line in, one line out.
#pragma once

#include <string>
#include <vector>

#include "world.h"

namespace workload {

// "ok facts..." or "error what".
Line run_command(World& world, const std::vector<std::string>& words);

}  // namespace workload
