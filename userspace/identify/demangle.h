// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace laggard::identify {

// C++ names as they are written; Rust's and every other name as it is. So are names whose readable form would be longer
// than 4096 bytes.
std::string demangled(std::string_view name);

}  // namespace laggard::identify
