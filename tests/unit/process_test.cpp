// SPDX-License-Identifier: MIT
#include "model/process.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace laggard::model {
namespace {

using namespace std::chrono_literals;

const ModelOptions kOptions{.window = 5s, .memory_window = 30s};
constexpr double kMiB = 1 << 20;

struct Curves {
  std::function<double(double)> anon = [](double) { return 0.0; };
  std::function<double(double)> swap = [](double) { return 0.0; };
  std::function<double(double)> shmem = [](double) { return 0.0; };
  std::function<double(double)> host_shmem = [](double) { return 0.0; };
  std::function<double(double)> read = [](double) { return 0.0; };
};

// After `length` of looks, one per `interval`.
MemoryTrend trend_of(const Curves& curves, Duration length = 60s, Duration interval = 1s)
{
  Process process;
  const auto bytes = [](double value) { return static_cast<std::uint64_t>(value); };
  for (Duration now{}; now <= length; now += interval) {
    const double t = seconds(now);
    ProcessSample sample;
    sample.id = {17, 1};
    sample.anon_bytes = bytes(100 * kMiB + curves.anon(t));
    sample.swap_bytes = bytes(curves.swap(t));
    sample.shmem_bytes = bytes(curves.shmem(t));
    sample.read_bytes = bytes(curves.read(t));
    process.observe(sample, MonoTime{1000s + now}, bytes(curves.host_shmem(t)), kOptions);
  }
  return process.trends().front();
}

bool is_suspect(const MemoryTrend& trend)
{
  return trend.covers_window && trend.significant && trend.goes_on && trend.growth_bytes >= 8 * kMiB;
}

TEST(MemoryTrend, LinearGrowthIsMeasuredExactly)
{
  const MemoryTrend trend =
      trend_of({.anon = [](double t) { return 1e6 * t; }, .read = [](double t) { return 2e6 * t; }});
  EXPECT_TRUE(is_suspect(trend));
  EXPECT_NEAR(trend.bytes_per_second, 1e6, 100);  // looks are kept in KiB
  EXPECT_NEAR(trend.growth_bytes, 30e6, 3000);
  EXPECT_EQ(trend.read_bytes, 60'000'000U);  // of the window, not of the whole life
  EXPECT_NEAR(trend.retained_ratio, 0.5, 1e-4);
}

TEST(MemoryTrend, WhatMovesToSwapIsStillThere)
{
  const MemoryTrend trend = trend_of({.anon = [](double t) { return -1e6 * t; }, .swap = [](double t) { return 2e6 * t; }});
  EXPECT_NEAR(trend.bytes_per_second, 1e6, 100);
}

TEST(MemoryTrend, AYoungerProcessDoesNotCoverTheWindow)
{
  const Curves curves{.anon = [](double t) { return 1e6 * t; }};
  EXPECT_FALSE(trend_of(curves, 29s).covers_window);
  EXPECT_TRUE(trend_of(curves, 30s).covers_window);
  EXPECT_FALSE(trend_of(curves, 2s).significant);
}

TEST(MemoryTrend, AStaircaseIsGrowth)
{
  // A vector that is reallocated in steps of 4 MB every 3 s.
  EXPECT_TRUE(is_suspect(trend_of({.anon = [](double t) { return 4e6 * std::floor(t / 3); }})));
}

TEST(MemoryTrend, ASawToothThatComesBackIsNot)
{
  for (double period : {2.0, 5.0, 7.0, 10.0, 13.0, 15.0, 17.0, 20.0})
    for (Duration length = 40s; length <= 80s; length += 1s) {
      const auto saw = [period](double t) { return 40 * kMiB * std::fmod(t, period) / period; };
      EXPECT_FALSE(is_suspect(trend_of({.anon = saw}, length))) << period << " until " << seconds(length);
    }
}

TEST(MemoryTrend, LoadingThatStoppedIsNot)
{
  for (double stop : {35.0, 40.0, 45.0, 49.0})
    EXPECT_FALSE(is_suspect(trend_of({.anon = [stop](double t) { return 5e6 * std::min(t, stop); }}))) << stop;
}

TEST(MemoryTrend, WarmUpThatFlattensIsNot)
{
  EXPECT_FALSE(is_suspect(trend_of({.anon = [](double t) { return 100 * kMiB * (1 - std::exp(-t / 15)); }})));
}

// Node.js: 9 s until the heap is as large as it will be, then teeth of 5 s (measured, in MiB, 1 s apart).
TEST(MemoryTrend, WarmUpWithTeethIsNot)
{
  const std::vector<double> measured = {13, 17, 23, 27, 33, 34, 42, 47, 51, 58, 34, 42, 50, 58, 44, 35, 42, 50, 58, 43, 34, 18,
                                        26, 32, 35, 34, 42, 50, 58, 44, 34, 42, 50, 58, 44, 34, 42, 50, 58, 43, 33, 18, 25, 31};
  for (double slower : {1.0, 1.5, 2.5})  // 2.5: as it looks to --memory-window 12s
    for (Duration length = 30s; length <= 40s * slower; length += 1s)
      EXPECT_FALSE(is_suspect(trend_of(
          {.anon = [&](double t) { return kMiB * measured.at(static_cast<std::size_t>(t / slower)); }}, length)))
          << slower << " until " << seconds(length);
}

TEST(MemoryTrend, ALeakUnderTeethIs)
{
  for (double period : {3.0, 5.0, 10.0}) {
    int suspected = 0;
    for (Duration length = 40s; length < 60s; length += 1s)
      suspected += is_suspect(trend_of({.anon = [=](double t) { return 1e6 * t + 20e6 * std::fmod(t, period) / period; }}, length));
    EXPECT_GT(suspected, 0) << period;
  }
}

TEST(MemoryTrend, AFlatOrShrinkingProcessIsNotLookedAtAnyFurther)
{
  EXPECT_FALSE(trend_of({}).significant);
  EXPECT_EQ(trend_of({.anon = [](double t) { return -1e5 * t; }}).bytes_per_second, 0);
}

TEST(MemoryTrend, SharedMemoryCountsOnlyAsFarAsTheHostGainedIt)
{
  const auto grows = [](double t) { return 1e6 * t; };
  const auto half = [](double t) { return 0.5e6 * t; };
  EXPECT_FALSE(is_suspect(trend_of({.shmem = grows})));  // pages that were there, mapped by one more
  EXPECT_NEAR(trend_of({.shmem = grows, .host_shmem = half}).bytes_per_second, 0.5e6, 100);
  EXPECT_NEAR(trend_of({.shmem = grows, .host_shmem = grows}).bytes_per_second, 1e6, 100);
  EXPECT_EQ(trend_of({.host_shmem = grows}).bytes_per_second, 0);  // somebody else's
}

TEST(MemoryTrend, ATotalThatStartedAgainIsNotNegative)
{
  const MemoryTrend trend = trend_of(
      {.anon = [](double t) { return 1e6 * t; }, .read = [](double t) { return t < 45 ? 1e9 + 1e6 * t : 1e6 * (t - 45); }});
  EXPECT_EQ(trend.read_bytes, 15'000'000U);
}

TEST(MemoryTrend, NothingReadRetainsNothing)
{
  EXPECT_EQ(trend_of({.anon = [](double t) { return 1e6 * t; }}).retained_ratio, 0);
}

TEST(MemoryTrend, ShortIntervalsAreThinnedWithoutLosingTheWindow)
{
  Process process;
  for (int i = 0; i <= 1200; i++)
    process.observe({.id = {17, 1}, .comm = "x"}, MonoTime{1000s + i * 50ms}, 0, kOptions);
  EXPECT_LE(process.history().size(), 2U) << "nothing changes";
  EXPECT_TRUE(process.trends().front().covers_window);
  EXPECT_NEAR(trend_of({.anon = [](double t) { return 1e6 * t; }}, 60s, 50ms).bytes_per_second, 1e6, 100);
}

// However long the window is, whose looks are further apart the longer it is, and wherever the attribution begins in it.
TEST(Attribution, TheNetGrowthIsThatOfTheAttributionWhateverTheWindow)
{
  for (const Duration window : {Duration{30s}, Duration{5min}, Duration{30min}})
    for (const Duration length : {Duration{2s}, Duration{5s}, Duration{25s}})
      for (Duration begin = window; begin < window + 65s; begin += 1s) {
        Process process;
        for (Duration now{}; now <= begin + length; now += 1s)
          process.observe({.id = {17, 1}, .comm = "x", .anon_bytes = static_cast<std::uint64_t>(1e6 * seconds(now))},
                          MonoTime{1000s + now}, 0, {.memory_window = window});
        // The source begins when the tick is over, and is looked at when the next one after its end begins.
        Attribution attribution;
        attribution.begin = MonoTime{1000s + begin + 7ms};
        attribution.end = MonoTime{1000s + begin + length - 7ms};
        process.attribute(attribution);
        ASSERT_NEAR(process.attribution()->net_bytes, 1e6 * seconds(length), 1e6 * seconds(length) / 16 + 1)
            << seconds(window) << " s, at " << seconds(begin);
      }
}

}  // namespace
}  // namespace laggard::model
