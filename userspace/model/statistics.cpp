// SPDX-License-Identifier: MIT
#include "model/statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

namespace laggard::model {
namespace {

std::size_t size_bucket(std::uint32_t bytes)
{
  const auto bucket = static_cast<std::size_t>(bytes == 0 ? 0 : std::bit_width(bytes) - 1);
  return std::min(bucket, kSizeBuckets - 1);
}

}  // namespace

double median(std::vector<double> values)
{
  if (values.empty())
    return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double theil_sen_slope(std::span<const Point> points)
{
  std::vector<double> slopes;
  slopes.reserve(points.size() * points.size() / 2);
  for (std::size_t i = 0; i < points.size(); i++)
    for (std::size_t j = i + 1; j < points.size(); j++)
      if (points[j].x > points[i].x)
        slopes.push_back((points[j].y - points[i].y) / (points[j].x - points[i].x));
  return median(std::move(slopes));
}

bool rises_significantly(std::span<const Point> points)
{
  constexpr double kOnePercent = 2.326;  // one-sided normal quantile
  const auto n = static_cast<double>(points.size());
  if (n < 4)
    return false;
  double s = 0;
  std::map<double, double> ties;
  for (std::size_t i = 0; i < points.size(); i++) {
    ties[points[i].y]++;
    for (std::size_t j = i + 1; j < points.size(); j++)
      s += (points[j].y > points[i].y) - (points[j].y < points[i].y);
  }
  double variance = n * (n - 1) * (2 * n + 5);
  for (const auto& [value, count] : ties)
    variance -= count * (count - 1) * (2 * count + 5);
  variance /= 18;
  return s > 0 && variance > 0 && (s - 1) / std::sqrt(variance) > kOnePercent;
}

ReadSizes read_sizes_between(const ReadCounts& before, const ReadCounts& after)
{
  std::array<std::uint64_t, kSizeBuckets> counts{};
  ReadSizes result;
  for (std::size_t b = 0; b < kSizeBuckets; b++)
    counts[b] = after.sizes[b] - before.sizes[b];  // mod 2^32, as the counters are
  // Runs of equal reads enter the histogram when they end: the one that is open now is added here, and what an open
  // run had before `before` is in excess if that run has ended since.
  result.reads = after.reads - before.reads;
  const std::uint64_t run = std::min(after.run_reads, result.reads);
  counts[size_bucket(after.run_bytes)] += run;
  const std::uint64_t sum = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  std::uint64_t& ended = counts[size_bucket(before.run_bytes)];
  ended -= std::min(ended, sum - std::min(sum, result.reads));
  if (result.reads == 0)
    return result;
  // Where one bucket holds nearly all reads, its mean is known, and better than a guess within the power of two.
  const auto low_of = [](std::size_t bucket) { return std::ldexp(1.0, static_cast<int>(bucket)); };
  const auto mean_of = [&](std::size_t bucket) -> std::optional<std::uint64_t> {
    double bytes = static_cast<double>(after.read_bytes - before.read_bytes);
    if (static_cast<double>(counts[bucket]) < 0.75 * static_cast<double>(result.reads))
      return std::nullopt;
    for (std::size_t b = 0; b < kSizeBuckets; b++)
      if (b != bucket)
        bytes -= 1.5 * low_of(b) * static_cast<double>(counts[b]);
    const double mean = bytes / static_cast<double>(counts[bucket]);
    return static_cast<std::uint64_t>(std::llround(std::clamp(mean, low_of(bucket), 2 * low_of(bucket) - 1)));
  };
  const auto quantile = [&](double share) -> std::uint64_t {
    const double rank = share * static_cast<double>(result.reads);
    double below = 0;
    for (std::size_t b = 0; b < kSizeBuckets; b++) {
      const auto count = static_cast<double>(counts[b]);
      if (count > 0 && below + count >= rank) {
        return mean_of(b).value_or(static_cast<std::uint64_t>(low_of(b) * (1 + (rank - below) / count)));
      }
      below += count;
    }
    return 0;
  };
  result.p50_bytes = quantile(0.5);
  result.p99_bytes = quantile(0.99);
  // One size that makes at least half of all reads is the median itself.
  if (run * 2 >= result.reads) {
    result.p50_bytes = after.run_bytes;
    result.p50_is_exact = true;
    if (static_cast<double>(run) >= 0.99 * static_cast<double>(result.reads))
      result.p99_bytes = after.run_bytes;
  }
  return result;
}

}  // namespace laggard::model
