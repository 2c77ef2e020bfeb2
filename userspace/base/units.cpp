// SPDX-License-Identifier: MIT
#include "base/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace laggard {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array kDurationUnits = {Unit{"ns", 1},   Unit{"us", 1e3},  Unit{"ms", 1e6},   Unit{"s", 1e9},
                                       Unit{"m", 60e9}, Unit{"min", 60e9}, Unit{"h", 3600e9}, Unit{"d", 86400e9}};
constexpr double kKi = 1024, kMi = kKi * kKi, kGi = kMi * kKi;
constexpr std::array kByteUnits = {Unit{"", 1},      Unit{"B", 1},     Unit{"K", kKi},    Unit{"KiB", kKi},
                                   Unit{"M", kMi},   Unit{"MiB", kMi}, Unit{"G", kGi},    Unit{"GiB", kGi},
                                   Unit{"kB", 1e3},  Unit{"KB", 1e3},  Unit{"MB", 1e6},   Unit{"GB", 1e9}};

// Takes a number off the front of `text`; false where there is none. No sign, no exponent, no "inf".
bool take_number(std::string_view& text, double& number)
{
  if (text.empty() || text.front() < '0' || text.front() > '9')
    return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || end[-1] == '.')
    return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name)
{
  for (const Unit& unit : units)
    if (unit.name == name)
      return &unit;
  return nullptr;
}

std::string_view take_unit(std::string_view& text)
{
  std::size_t length = 0;
  while (length < text.size() && (text[length] < '0' || text[length] > '9'))
    length++;
  std::string_view unit = text.substr(0, length);
  text.remove_prefix(length);
  return unit;
}

std::string three_digits(double value, std::string_view unit)
{
  return value < 99.95 && value != std::floor(value) ? fmt::format("{:.1f} {}", value, unit)
                                                     : fmt::format("{:.0f} {}", value, unit);
}

std::string scaled(double value, double step, std::string_view none, const std::array<std::string_view, 4>& units)
{
  if (value < step)
    return three_digits(std::round(value), none);
  std::size_t index = 0;
  value /= step;
  while (value >= step && index + 1 < units.size()) {
    value /= step;
    index++;
  }
  return three_digits(value, units[index]);
}

}  // namespace

Result<Duration> parse_duration(std::string_view text)
{
  const auto refuse = [whole = std::string(text)] {
    return failure(fmt::format("'{}' is not a duration: write for example 500ms, 5s or 1h30m", whole));
  };
  if (text.empty())
    return refuse();
  double total_ns = 0;
  while (!text.empty()) {
    double number = 0;
    if (!take_number(text, number))
      return refuse();
    const Unit* unit = find_unit(kDurationUnits, take_unit(text));
    if (unit == nullptr)
      return refuse();
    total_ns += number * unit->factor;
  }
  if (total_ns > 1e17)  // three years: rules multiply by ten, and nanoseconds overflow at 292 years
    return refuse();
  return Duration{std::llround(total_ns)};
}

Result<std::uint64_t> parse_bytes(std::string_view text)
{
  const std::string whole{text};
  double number = 0;
  const Unit* unit = take_number(text, number) ? find_unit(kByteUnits, text) : nullptr;
  if (unit == nullptr || number * unit->factor > 1e18)
    return failure(fmt::format("'{}' is not a size: write for example 4096, 64KiB or 8MiB", whole));
  return static_cast<std::uint64_t>(std::llround(number * unit->factor));
}

Result<std::uint64_t> parse_count(std::string_view text)
{
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size())
    return failure(fmt::format("'{}' is not a number", text));
  return count;
}

Result<double> parse_share(std::string_view text)
{
  const std::string whole{text};
  double number = 0;
  const bool ok = take_number(text, number) && (text.empty() || text == "%");
  const double share = text == "%" ? number / 100 : number;
  if (!ok || share > 1)
    return failure(fmt::format("'{}' is not a share: write for example 50% or 0.5", whole));
  return share;
}

std::string format_duration(Duration duration)
{
  const double s = seconds(duration);
  if (s < 1e-3)
    return three_digits(s * 1e6, "us");
  if (s < 0.9995)
    return three_digits(std::round(s * 1e3), "ms");
  if (s < 10)
    return three_digits(std::round(s * 10) / 10, "s");
  if (s < 120)
    return three_digits(std::round(s), "s");
  const auto minutes = static_cast<long>(s / 60);
  if (minutes < 120)
    return fmt::format("{} min", minutes);
  if (minutes < 48 * 60)
    return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{} d {} h", minutes / 1440, minutes / 60 % 24);
}

std::string format_bytes(double bytes) { return scaled(bytes, 1024, "B", {"KiB", "MiB", "GiB", "TiB"}); }

std::string format_rate(double bytes_per_second)
{
  return scaled(bytes_per_second, 1000, "B/s", {"kB/s", "MB/s", "GB/s", "TB/s"});
}

std::string format_count(double count)
{
  if (count < 10'000)
    return count < 10 && count != std::floor(count) ? fmt::format("{:.1f}", count) : fmt::format("{:.0f}", count);
  return scaled(count, 1000, "", {"k", "M", "G", "T"});
}

std::string format_percent(double share) { return fmt::format("{:.0f} %", share * 100); }

}  // namespace laggard
