// SPDX-License-Identifier: MIT
#include "source/live/budget.h"

#include <gtest/gtest.h>

namespace laggard::source::live {
namespace {

using namespace std::chrono_literals;

// A second per tick; each walk that is due costs what `cost` says. Returns the share of one core that all of it took.
struct Host {
  Budget budget{0.01};
  Duration cpu{};
  int second = 0;
  std::array<int, kWalks> runs{};

  double run(int seconds_long, const std::array<Duration, kWalks>& cost, Duration otherwise = {}, Duration understood = {})
  {
    const Duration before = cpu;
    runs = {};
    for (int i = 0; i < seconds_long; i++, second++) {
      const MonoTime now{1000s + second * 1s};
      budget.begin_tick(now, cpu);
      cpu += otherwise;
      for (std::size_t walk = 0; walk < kWalks; walk++)
        if (budget.due(static_cast<Walk>(walk), now)) {
          cpu += cost[walk];
          budget.spent(static_cast<Walk>(walk), now, cost[walk]);
          runs[walk]++;
        }
      if (runs[0] > 0 && budget.period(Walk::Sweep) == Duration{})
        continue;
      cpu += understood;
      budget.charge(Walk::Sweep, understood);
    }
    return seconds(cpu - before) / seconds_long;
  }
};

TEST(Budget, WalksThatAreCheapRunWithEachTick)
{
  Host host;
  host.run(60, {2ms, 1ms, 1ms, 100us, 0ms, 0ms});
  for (const std::size_t walk : {0U, 1U, 2U, 3U})
    EXPECT_EQ(host.runs[walk], 60) << walk;
}

TEST(Budget, ADearWalkBecomesRarerAndLeavesTheOthersAsTheyAre)
{
  Host host;
  const std::array<Duration, kWalks> cost = {100ms, 500us, 500us, 0ms, 0ms, 0ms};
  host.run(60, cost);
  const double used = host.run(300, cost);
  EXPECT_LE(used, 0.0105);
  EXPECT_GE(used, 0.008) << "what the others leave is used";
  EXPECT_EQ(host.runs[2], 300);
  EXPECT_GE(host.budget.period(Walk::Sweep), 9s);
}

TEST(Budget, WhereAllAreDearEachGetsAShare)
{
  Host host;
  const std::array<Duration, kWalks> cost = {200ms, 200ms, 50ms, 20ms, 30ms, 10ms};
  host.run(300, cost);
  const double used = host.run(1000, cost);
  EXPECT_LE(used, 0.011);
  for (std::size_t walk = 0; walk < kWalks; walk++)
    EXPECT_GE(host.runs[walk], 5) << walk;
  EXPECT_LT(host.budget.period(Walk::Sweep), host.budget.period(Walk::Holders));
}

TEST(Budget, WhatIsUsedOtherwiseIsTakenFromTheWalksButNotAllOfIt)
{
  Host host;
  const std::array<Duration, kWalks> cost = {100ms, 0ms, 0ms, 0ms, 0ms, 0ms};
  host.run(100, cost, 4ms);
  EXPECT_LE(host.run(500, cost, 4ms), 0.0115);
  host.run(200, cost, 50ms);
  EXPECT_GE(host.run(500, cost, 50ms), 0.05 + 0.004) << "half of --max-cpu is for walks, whatever else there is";
}

TEST(Budget, AnIncidentIsPaidForAtOnceAndForgottenSoon)
{
  Host host;
  host.run(60, {1ms, 0ms, 0ms, 0ms, 0ms, 0ms});
  EXPECT_LE(host.run(60, {150ms, 0ms, 0ms, 0ms, 0ms, 0ms}), 0.013 * 1.3);
  EXPECT_LE(host.runs[0], 6);
  host.run(90, {1ms, 0ms, 0ms, 0ms, 0ms, 0ms});
  host.run(20, {1ms, 0ms, 0ms, 0ms, 0ms, 0ms});
  EXPECT_EQ(host.runs[0], 20);
}

TEST(Budget, AWantedWalkMayComeEarly)
{
  Budget budget{0.01};
  MonoTime now{1000s};
  budget.begin_tick(now, {});
  budget.spent(Walk::Holders, now, 300ms);  // the first is like no other: a third of it is learned
  budget.spent(Walk::Holders, now, 90ms);
  const Duration period = budget.period(Walk::Holders);
  ASSERT_GT(period, 5s);
  EXPECT_FALSE(budget.due(Walk::Holders, now + period / 2));
  EXPECT_TRUE(budget.due(Walk::Holders, now + period / 2, true));
  EXPECT_FALSE(budget.due(Walk::Holders, now + period / 4, true));
  EXPECT_TRUE(budget.due(Walk::Holders, now + period));
}

}  // namespace
}  // namespace laggard::source::live
