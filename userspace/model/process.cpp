// SPDX-License-Identifier: MIT
#include "model/process.h"

#include <algorithm>

namespace laggard::model {
namespace {

constexpr int kLooksPerMemoryWindow = 30;  // 435 pairs for Theil-Sen
constexpr int kLooksPerAge = 8;            // an attribution's begin is missed by a sixteenth of its length at most

// Mapping pages that exist already grows a process's share, not the host's: count no more than the host gained, and of that
// what is this process's share of what all have mapped meanwhile. (Four PostgreSQL backends that touch a fresh pool of shared
// buffers: 0.5 MB/s each, and 0.36 MB/s on the host.)
double grown_bytes(const Process::Look& first, const Process::Look& look)
{
  const auto difference = [](std::uint64_t a, std::uint64_t b) { return static_cast<double>(a) - static_cast<double>(b); };
  const double shmem = difference(look.shmem_bytes, first.shmem_bytes);
  const double host = difference(look.host_shmem_bytes, first.host_shmem_bytes);
  const double all = std::max(difference(look.all_shmem_bytes, first.all_shmem_bytes), shmem);
  const double share = shmem > 0 ? shmem / all : 1;
  return difference(look.private_bytes, first.private_bytes) + std::min(shmem, std::max(host, 0.0) * share);
}

}  // namespace

void Process::observe(const ProcessSample& sample, MonoTime now, std::uint64_t host_shmem_bytes,
                      const ModelOptions& options, std::uint64_t all_shmem_bytes)
{
  if (!sample.waits_in_epoll)
    waits_since_ = {};
  else if (!known(waits_since_))
    waits_since_ = now;
  latest_ = sample;
  // The newest look is always there; the one before it goes if the two are closer than the window needs.
  const std::size_t n = history_.size();
  if (n >= 2 && history_[n - 1].time - history_[n - 2].time < options.memory_window / kLooksPerMemoryWindow)
    history_.pop_back();
  history_.push_back({now, sample.private_bytes(), sample.shmem_bytes, host_shmem_bytes, all_shmem_bytes, sample.read_bytes});
  while (history_.size() > 2 && history_[1].time <= now - options.memory_window)
    history_.pop_front();

  recent_.push_back(history_.back());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < recent_.size(); i++) {
    const bool is_last = i + 1 == recent_.size();
    if (!is_last && recent_[i + 1].time <= now - options.memory_window)
      continue;
    if (kept > 0 && !is_last &&
        (recent_[i + 1].time - recent_[kept - 1].time) * kLooksPerAge <= now - recent_[i + 1].time)
      continue;
    recent_[kept++] = recent_[i];
  }
  recent_.resize(kept);
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

void Process::attribute(Attribution attribution)
{
  // It begins between two looks, mostly right after one.
  const auto distance = [&](const Look& look) { return std::chrono::abs(look.time - attribution.begin); };
  const auto nearest = std::ranges::min_element(recent_, {}, distance);
  if (nearest != recent_.end())
    attribution.net_bytes = grown_bytes(*nearest, recent_.back());
  if (!recent_.empty())
    attributed_ = recent_.back();
  attribution_ = std::move(attribution);
}

double Process::grown_since_attribution() const
{
  return attribution_ && !recent_.empty() ? grown_bytes(attributed_, recent_.back()) : 0;
}

MemoryTrend memory_trend(const Process& process, const ModelOptions& options)
{
  MemoryTrend trend;
  const auto& history = process.history();
  if (history.size() < 4)
    return trend;
  const Process::Look& first = history.front();
  const Process::Look& last = history.back();
  trend.covers_window = last.time - first.time >= options.memory_window;

  std::vector<Point> points;
  points.reserve(history.size());
  for (const Process::Look& look : history)
    points.push_back({seconds(look.time - first.time), grown_bytes(first, look)});
  // Cheap first: most processes do not grow at all.
  if (points.back().y <= 0)
    return trend;
  trend.bytes_per_second = theil_sen_slope(points);
  trend.growth_bytes = trend.bytes_per_second * seconds(options.memory_window);
  trend.significant = rises_significantly(points);
  const double last_third = points.back().x * 2 / 3;
  const auto tail = std::find_if(points.begin(), points.end(), [&](const Point& point) { return point.x >= last_third; });
  // The floor of what grows for good rises by half of the growth from one half of the window to the other, and by a third
  // of it from the second third to the last. Half of that will do. A collector's teeth of up to two thirds of the window
  // leave their floor where it was, a warm-up that is over leaves the last third's.
  const double grown = trend.bytes_per_second * points.back().x;
  const auto floor_rises = [&](double from, double middle, double to) {
    double before = points.back().y, after = points.back().y;
    for (const Point& point : points) {
      const double at = point.x / points.back().x;
      if (at >= from && at <= to)
        (at < middle ? before : after) = std::min(at < middle ? before : after, point.y);
    }
    return after - before >= grown * (middle - from) / 2;
  };
  trend.goes_on = theil_sen_slope({tail, points.end()}) >= trend.bytes_per_second / 2 && floor_rises(0, 0.5, 1) &&
                  floor_rises(1.0 / 3, 2.0 / 3, 1);
  // A total that fell was forgotten by the kernel side and started again.
  trend.read_bytes = last.read_bytes >= first.read_bytes ? last.read_bytes - first.read_bytes : last.read_bytes;
  trend.retained_ratio = trend.read_bytes > 0 ? grown / static_cast<double>(trend.read_bytes) : 0;
  return trend;
}

}  // namespace laggard::model
