// SPDX-License-Identifier: MIT
// Arithmetic on positions mod 2^32, as in include/net/tcp.h.
#pragma once

#include <cstdint>

namespace laggard {

inline bool seq_before(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }
inline bool seq_after(std::uint32_t a, std::uint32_t b) { return seq_before(b, a); }

}  // namespace laggard
