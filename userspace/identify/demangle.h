// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace laggard::identify {

// C++ names as they are written; every other name as it is. So are names that are longer, or would be, than anyone
// reads.
std::string demangled(const std::string& name);

}  // namespace laggard::identify
