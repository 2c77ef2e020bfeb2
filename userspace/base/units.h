// SPDX-License-Identifier: MIT
// Durations, sizes and shares as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace laggard {

// "500ms", "1s", "2m", "1h30m", "1.5s"; units ns us ms s m h d. A bare number is refused: nobody agrees on its unit.
Result<Duration> parse_duration(std::string_view text);
// "4096", "64KiB", "64K", "8MiB", "1GiB", "10kB", "10MB"; a bare number is bytes, K M G are binary as in ss and systemd.
Result<std::uint64_t> parse_bytes(std::string_view text);
// Digits only.
Result<std::uint64_t> parse_count(std::string_view text);
// "50%" or "0.5", from 0 to 1.
Result<double> parse_share(std::string_view text);

std::string format_duration(Duration duration);     // "340 ms", "4.2 s", "42 s", "47 min", "3 h 12 min", "2 d 3 h"
std::string format_bytes(double bytes);             // "12 B", "24.1 KiB", "1.4 GiB"
std::string format_rate(double bytes_per_second);   // "5.4 MB/s"
std::string format_count(double count);             // "23", "450 k", "1.2 M"
std::string format_percent(double share);           // "97 %"

}  // namespace laggard
