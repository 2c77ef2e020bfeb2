// SPDX-License-Identifier: MIT
// Any text as a duration, a size, a share; what is accepted is in range and can be shown.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/units.h"

namespace {

void check(bool holds)
{
  if (!holds)
    __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
  using namespace laggard;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto duration = parse_duration(text)) {
    check(*duration >= Duration{} && *duration <= Duration{100'000'000'000'000'000});
    check(!format_duration(*duration).empty());
  }
  if (const auto bytes = parse_bytes(text)) {
    check(*bytes <= 1'000'000'000'000'000'000);
    check(!format_bytes(static_cast<double>(*bytes)).empty() && !format_rate(static_cast<double>(*bytes)).empty());
    check(!format_count(static_cast<double>(*bytes)).empty());
  }
  if (const auto share = parse_share(text)) {
    check(*share >= 0 && *share <= 1);
    check(!format_percent(*share).empty());
  }
  return 0;
}
