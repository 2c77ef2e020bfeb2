// SPDX-License-Identifier: MIT
// The statistics that the rules need, on small samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/tick.h"

namespace laggard::model {

// Lower median; 0 of nothing.
double median(std::vector<double> values);

struct Point {
  double x = 0;  // seconds
  double y = 0;  // bytes
};
// Median of the slopes of all pairs (Theil 1950, Sen 1968): up to 29 % of the points may be anything.
double theil_sen_slope(std::span<const Point> points);
// Mann-Kendall: is there a rising trend, one-sided at 1 %? Needs at least 4 points. Normal approximation, with ties.
bool rises_significantly(std::span<const Point> points);

// Read sizes between two looks at one socket.
struct ReadSizes {
  std::uint64_t reads = 0;
  std::uint64_t p50_bytes = 0;
  std::uint64_t p99_bytes = 0;
  bool p50_is_exact = false;  // else it is interpolated within its power of two
};
ReadSizes read_sizes_between(const ReadCounts& before, const ReadCounts& after);

}  // namespace laggard::model
