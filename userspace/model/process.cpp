// SPDX-License-Identifier: MIT
#include "model/process.h"

#include <algorithm>
#include <cmath>

namespace laggard::model {
namespace {

constexpr int kPointsPerWindow = 30;  // 435 pairs for Theil-Sen
constexpr int kLooksPerAge = 8;       // beyond the memory window
constexpr int kLooksPerYoungAge = 8;  // an attribution's begin is missed by a sixteenth of its length at most
constexpr double kKeepsItsPace = 0.9;

std::uint32_t kib(std::uint64_t bytes)
{
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes >> 10, UINT32_MAX));
}

double difference(std::uint32_t kib_a, std::uint32_t kib_b) { return 1024 * (static_cast<double>(kib_a) - static_cast<double>(kib_b)); }

// Mapping pages that exist already grows a process's share, not the host's: count no more than the host gained, and of that
// what is this process's share of what all have mapped meanwhile. (Four PostgreSQL backends that touch a fresh pool of shared
// buffers: 0.5 MB/s each, and 0.36 MB/s on the host.)
double grown_bytes(const Process::Look& first, const Process::Look& look)
{
  const double shmem = difference(look.shmem_kib, first.shmem_kib);
  const double host = difference(look.host_shmem_kib, first.host_shmem_kib);
  const double all = std::max(difference(look.all_shmem_kib, first.all_shmem_kib), shmem);
  const double share = shmem > 0 ? shmem / all : 1;
  return difference(look.private_kib, first.private_kib) + std::min(shmem, std::max(host, 0.0) * share);
}

bool is_still(const Process::Look& look, const Process::Look& before)
{
  return look.private_kib == before.private_kib && look.low_kib == look.high_kib && look.shmem_kib == before.shmem_kib;
}

// How far apart looks of that age may be.
Duration gap_of(Duration age, const ModelOptions& options)
{
  if (age > options.memory_window)
    return age / kLooksPerAge;
  return std::min(options.memory_window / kPointsPerWindow, age / kLooksPerYoungAge);
}

// What grows for good raises its floor by half of the growth from one half of the window to the other, and by a third of it
// from the second third to the last. Half of that will do. A collector's teeth of up to two thirds of the window leave their
// floor where it was, a warm-up that is over leaves the last third's.
bool floor_rises(std::span<const Point> floor, double grown)
{
  const auto lowest = [&](double from, double to) {
    double least = floor.back().y;
    for (const Point& point : floor)
      if (const double at = point.x / floor.back().x; at >= from && at < to)
        least = std::min(least, point.y);
    return least;
  };
  const auto rises = [&](double from, double middle) {
    return lowest(middle, 2) - lowest(from, middle) >= grown * (middle - from) / 2;
  };
  return rises(0, 0.5) && rises(1.0 / 3, 2.0 / 3);
}

// A step is a twentieth of the growth at least; two points are as good as one.
bool rests(std::span<const Point> points, double grown)
{
  double top = points.front().y, rose_at = points.front().x, longest = 0;
  for (const Point& point : points) {
    if (point.y < top + grown / 20)
      continue;
    top = point.y;
    longest = std::max(longest, point.x - rose_at);
    rose_at = point.x;
  }
  return points.back().x - rose_at > 2 * (longest + points.back().x / kPointsPerWindow);
}

}  // namespace

void Process::observe(const ProcessSample& sample, MonoTime now, std::uint64_t host_shmem_bytes,
                      const ModelOptions& options, std::uint64_t all_shmem_bytes)
{
  if (!sample.waits_in_epoll)
    waits_since_ = {};
  else if (!known(waits_since_))
    waits_since_ = now;
  if (!known(first_seen_))
    first_seen_ = now;
  uses_sockets_ = uses_sockets_ || sample.uses_sockets || sample.read_bytes > 0;
  latest_ = sample;
  const std::uint32_t own = kib(sample.private_bytes());
  least_kib_ = std::min(least_kib_, own);
  const Duration interval = looks_.empty() ? Duration{} : now - looks_.back().time;
  remember({now, sample.read_bytes, own, own, own, kib(sample.shmem_bytes), kib(host_shmem_bytes), kib(all_shmem_bytes),
            kib(sample.data_bytes), sockets_},
           options);
  for (std::size_t i = 0; i < trends_.size(); i++) {
    const Duration window = options.memory_window * kMemoryWindows[i];
    if (now < trends_due_[i])
      continue;
    trends_due_[i] = now + window / kPointsPerWindow - interval / 20;
    trends_[i] = trend_over(window, interval, options);
  }
}

void Process::holds_sockets(std::uint32_t count)
{
  sockets_ = count;
  uses_sockets_ = uses_sockets_ || count > 0;
}

void Process::remember(const Look& look, const ModelOptions& options)
{
  const std::size_t n = looks_.size();
  if (n >= 2 && is_still(look, looks_[n - 1]) && is_still(looks_[n - 1], looks_[n - 2])) {
    looks_.back() = look;
    return;
  }
  looks_.push_back(look);
  const MonoTime oldest = look.time - options.memory_window * (kMemoryWindows.back() + kHighWater);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < looks_.size(); i++) {
    const Look& one = looks_[i];
    Look* next = i + 1 < looks_.size() ? &looks_[i + 1] : nullptr;
    if (next != nullptr && next->time <= oldest) {
      forgotten_high_kib_ = std::max(forgotten_high_kib_, one.high_kib);
      continue;
    }
    if (next != nullptr && kept > 0 && next->time - looks_[kept - 1].time <= gap_of(look.time - next->time, options)) {
      next->low_kib = std::min(next->low_kib, one.low_kib);
      next->high_kib = std::max(next->high_kib, one.high_kib);
      continue;
    }
    looks_[kept++] = one;
  }
  looks_.resize(kept);
}

std::uint64_t Attribution::socket_kernel_bytes() const
{
  std::uint64_t bytes = 0;
  for (const Share& share : sockets)
    bytes += share.kernel_bytes;
  return bytes;
}

std::uint64_t Attribution::socket_user_bytes() const
{
  std::uint64_t bytes = 0;
  for (const Share& share : sockets)
    bytes += share.user_bytes;
  return bytes;
}

std::uint64_t Attribution::answered_bytes() const
{
  std::uint64_t bytes = 0;
  for (const Share& share : sockets)
    if (share.server_side && share.turns > 0 && share.answered * 2 > share.turns)
      bytes += share.bytes();
  return bytes;
}

void Process::attribute(Attribution attribution)
{
  // It begins between two looks, mostly right after one.
  const auto distance = [&](const Look& look) { return std::chrono::abs(look.time - attribution.begin); };
  const auto nearest = std::ranges::min_element(looks_, {}, distance);
  if (nearest != looks_.end())
    attribution.net_bytes = grown_bytes(*nearest, looks_.back());
  if (!looks_.empty())
    attributed_ = looks_.back();
  attribution_ = std::move(attribution);
}

double Process::grown_since_attribution() const
{
  return attribution_ && !looks_.empty() ? grown_bytes(attributed_, looks_.back()) : 0;
}

double Process::gained_bytes() const { return looks_.empty() ? 0 : difference(looks_.back().private_kib, least_kib_); }

MemoryTrend Process::trend_over(Duration window, Duration interval, const ModelOptions& options) const
{
  MemoryTrend trend;
  trend.window = window;
  const Look& last = looks_.back();
  const MonoTime begin = last.time - window;
  trend.covers_window = looks_.front().time <= begin;
  if (!trend.covers_window || looks_.size() < 2)
    return trend;
  // The last one that is not within the window.
  auto look = std::prev(std::ranges::upper_bound(looks_, begin, {}, &Look::time));
  const Look& first = *look;
  // Cheap first: most processes do not grow at all.
  if (grown_bytes(first, last) <= 0)
    return trend;

  const bool shortest = window == options.memory_window;
  double high_water = shortest ? difference(0, first.private_kib) : difference(forgotten_high_kib_, first.private_kib);
  for (const Look& one : looks_)
    if (one.time <= begin && !(shortest && one.time < begin - options.memory_window * kHighWater))
      high_water = std::max(high_water, grown_bytes(first, one) + difference(one.high_kib, one.private_kib));

  // As many points as there were looks, whatever was thinned or stood still meanwhile.
  const auto count = static_cast<int>(window / std::max(interval, window / kPointsPerWindow));
  std::vector<Point> points, floor;
  double read_at_begin = 0, mapped_at_begin = 0, top = -HUGE_VAL, top_before = -HUGE_VAL;
  for (int i = 0; i <= count; i++) {
    const MonoTime when = i == count ? last.time : begin + window * i / count;
    double low = HUGE_VAL, high = -HUGE_VAL;
    while (std::next(look) != looks_.end() && std::next(look)->time <= when) {
      ++look;
      const double own = grown_bytes(first, *look);
      low = std::min(low, own + difference(look->low_kib, look->private_kib));
      high = std::max(high, own + difference(look->high_kib, look->private_kib));
    }
    const auto next = std::next(look) == looks_.end() ? look : std::next(look);
    const double part = next == look ? 0 : seconds(when - look->time) / seconds(next->time - look->time);
    const auto between = [part](double a, double b) { return a + (b - a) * part; };
    const double grown = between(grown_bytes(first, *look), grown_bytes(first, *next));
    const double x = seconds(when - begin);
    points.push_back({x, grown});
    floor.push_back({x, std::min(grown, low)});
    double& reached = i * 3 >= count * 2 ? top : top_before;
    reached = std::max({reached, grown, high});
    if (i == 0) {
      read_at_begin = between(static_cast<double>(look->read_bytes), static_cast<double>(next->read_bytes));
      mapped_at_begin = between(difference(look->mapped_kib, 0), difference(next->mapped_kib, 0));
      trend.new_sockets = last.sockets > look->sockets ? last.sockets - look->sockets : 0;
    }
  }
  trend.bytes_per_second = theil_sen_slope(points);
  trend.growth_bytes = trend.bytes_per_second * seconds(window);
  trend.significant = rises_significantly(points);
  const auto half = points.begin() + count / 2;
  const auto tail = std::ranges::find_if(points, [&](const Point& point) { return point.x * 3 >= points.back().x * 2; });
  // What is slow is easily taken for a leak while it levels off, and so are the first two teeth of a long saw.
  const bool keeps_its_pace =
      shortest || (theil_sen_slope({half, points.end()}) >= kKeepsItsPace * theil_sen_slope({points.begin(), half + 1}) &&
                   top - top_before >= trend.growth_bytes / 6);
  trend.goes_on = theil_sen_slope({tail, points.end()}) >= trend.bytes_per_second / 2 && keeps_its_pace &&
                  floor_rises(floor, trend.growth_bytes) && top - high_water >= trend.growth_bytes / 2;
  trend.rests = rests(points, trend.growth_bytes);
  trend.mapped_bytes = difference(last.mapped_kib, 0) - mapped_at_begin;
  // A total that fell was forgotten by the kernel side and started again.
  const auto read = static_cast<double>(last.read_bytes);
  trend.read_bytes = static_cast<std::uint64_t>(read >= read_at_begin ? read - read_at_begin : read);
  trend.retained_ratio = trend.read_bytes > 0 ? trend.growth_bytes / static_cast<double>(trend.read_bytes) : 0;
  return trend;
}

}  // namespace laggard::model
