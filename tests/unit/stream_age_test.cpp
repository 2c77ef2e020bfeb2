// SPDX-License-Identifier: MIT
#include "model/stream_age.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace laggard::model {
namespace {

using namespace std::chrono_literals;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }

TEST(StreamAge, NothingUnconsumedHasNoAge)
{
  StreamAge age;
  EXPECT_TRUE(age.empty());
  age.observe(at(0s), 100, 100);
  EXPECT_TRUE(age.empty());
  EXPECT_EQ(age.lag(at(9s)), 0s);
  EXPECT_FALSE(known(age.oldest()));
  EXPECT_EQ(age.last_consumed(), at(0s));
}

TEST(StreamAge, AProducerThatGoesOnDoesNotRestartTheAge)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  for (int second = 1; second <= 300; second++)
    age.observe(at(second * 1s), 100U + 7U * static_cast<std::uint32_t>(second), 100);
  EXPECT_EQ(age.oldest(), at(1s));
  EXPECT_EQ(age.lag(at(300s)), 299s);
  EXPECT_FALSE(age.is_lower_bound());
  EXPECT_EQ(age.last_consumed(), at(0s));
  EXPECT_EQ(age.last_produced(), at(300s));
}

TEST(StreamAge, LagIsTheTimeSinceProductionPassedWhatIsConsumed)
{
  StreamAge age;
  age.observe(at(0s), 0, 0);
  for (std::uint32_t second = 1; second <= 10; second++)
    age.observe(at(second * 1s), 1000 * second, second <= 3 ? 0 : 1000 * (second - 3));
  EXPECT_EQ(age.lag(at(10s)), 2s);   // byte 7000 came with the look at 8 s
  EXPECT_EQ(age.last_consumed(), at(10s));
}

TEST(StreamAge, ArrivalAfterALongIdleTimeStartsAtZero)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  age.observe(at(3600s), 101, 100);
  EXPECT_EQ(age.lag(at(3600s)), 0s);
  EXPECT_EQ(age.lag(at(3611s)), 11s);
}

TEST(StreamAge, ConsumptionWithoutAReadCounts)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  age.observe(at(1s), 600, 100);
  age.observe(at(2s), 600, 200);  // splice: only the position moved
  EXPECT_EQ(age.last_consumed(), at(2s));
  EXPECT_EQ(age.oldest(), at(1s));
  age.observe(at(3s), 700, 600);
  EXPECT_EQ(age.oldest(), at(3s));
  age.observe(at(4s), 700, 700);
  EXPECT_TRUE(age.empty());
}

TEST(StreamAge, PositionsMayWrap)
{
  StreamAge age;
  age.observe(at(0s), 0xfffffff0U, 0xfffffff0U);
  age.observe(at(1s), 0xfffffffeU, 0xfffffff0U);
  age.observe(at(2s), 0x10, 0xfffffff0U);
  EXPECT_EQ(age.oldest(), at(1s));
  age.observe(at(3s), 0x20, 0xffffffffU);  // the first mark is consumed, the second is beyond the wrap
  EXPECT_EQ(age.oldest(), at(2s));
  age.observe(at(4s), 0x20, 0x10);
  EXPECT_EQ(age.oldest(), at(3s));
  age.observe(at(5s), 0x20, 0x20);
  EXPECT_TRUE(age.empty());
}

TEST(StreamAge, WhatWasThereAtTheFirstLookIsALowerBound)
{
  StreamAge age;
  age.observe(at(0s), 500, 100);
  EXPECT_TRUE(age.is_lower_bound());
  EXPECT_EQ(age.oldest(), at(0s));
  age.observe(at(5s), 900, 100);
  EXPECT_TRUE(age.is_lower_bound());
  age.observe(at(6s), 900, 500);  // what remains came under our eyes
  EXPECT_FALSE(age.is_lower_bound());
  EXPECT_EQ(age.oldest(), at(5s));
}

TEST(StreamAge, WhatASocketThatWeSawOpenHasAtItsFirstLookIsNoLowerBound)
{
  StreamAge age;  // the kernel side shows an idle socket only once something came
  age.observe(at(0s), 500, 100, {}, false);
  EXPECT_FALSE(age.is_lower_bound());
  EXPECT_EQ(age.oldest(), at(0s));
}

TEST(StreamAge, ArrivalHintsDateTheFirstLookAndRefineLaterOnes)
{
  StreamAge first;
  first.observe(at(0s), 500, 100, at(-90s));
  EXPECT_EQ(first.oldest(), at(-90s));
  EXPECT_TRUE(first.is_lower_bound());

  StreamAge later;
  later.observe(at(0s), 100, 100, at(-500s));
  EXPECT_TRUE(later.empty());
  later.observe(at(10s), 200, 100, at(4s));
  EXPECT_EQ(later.oldest(), at(4s));
  EXPECT_EQ(later.lag(at(10s)), 6s);
}

TEST(StreamAge, HintsOutsideOfTheLooksAreNotBelieved)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  age.observe(at(10s), 200, 100, at(-30s));  // before the last look, which saw nothing
  EXPECT_EQ(age.oldest(), at(0s));
  StreamAge future;
  future.observe(at(0s), 100, 100);
  future.observe(at(1s), 200, 100, at(2s));
  EXPECT_EQ(future.oldest(), at(1s));
}

// Against the truth: every look remembered.
TEST(StreamAge, ThinningNeverMakesBytesOlderAndLosesLittle)
{
  std::mt19937 random{4711};
  const auto below = [&random](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
  for (int run = 0; run < 20; run++) {
    StreamAge age;
    std::deque<std::pair<MonoTime, std::uint32_t>> looks;
    std::uint32_t produced = 0xffff0000U, consumed = produced;
    for (int second = 0; second < 2000; second++) {
      produced += below(1000);
      if (below(3) == 0 && run % 2 == 0)
        consumed += std::min(produced - consumed, below(2500));
      const MonoTime now = at(second * 1s);
      age.observe(now, produced, consumed);
      looks.emplace_back(now, produced);
      while (!looks.empty() && static_cast<std::int32_t>(looks.front().second - consumed) <= 0)
        looks.pop_front();
      if (looks.empty()) {
        ASSERT_TRUE(age.empty());
        continue;
      }
      ASSERT_FALSE(age.empty());
      ASSERT_GE(age.oldest(), looks.front().first) << "older than it is";
      if (run % 2 == 1) {
        ASSERT_EQ(age.oldest(), looks.front().first);  // the oldest mark itself is never thinned
      }
    }
  }
}

TEST(StreamAge, ARestartMovesWhatCameBeforeItAndNothingElse)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  age.observe(at(1s), 200, 100);
  age.observe(at(5s), 300, 100);
  age.restart(at(3s));
  EXPECT_EQ(age.oldest(), at(3s));
  age.observe(at(6s), 300, 250);
  EXPECT_EQ(age.oldest(), at(5s));
}

TEST(StreamAge, ARestartEndsALowerBound)
{
  StreamAge age;
  age.observe(at(0s), 200, 100);
  ASSERT_TRUE(age.is_lower_bound());
  age.restart(at(9s));
  EXPECT_FALSE(age.is_lower_bound());
  EXPECT_EQ(age.lag(at(10s)), 1s);
}

TEST(StreamAge, ARestartToATimeBeforeChangesNothing)
{
  StreamAge age;
  age.observe(at(4s), 200, 100);
  age.restart(at(2s));
  EXPECT_EQ(age.oldest(), at(4s));
  EXPECT_TRUE(age.is_lower_bound());
}

TEST(StreamAge, ARestartOfNothingIsNothing)
{
  StreamAge age;
  age.observe(at(0s), 100, 100);
  age.restart(at(2s));
  EXPECT_TRUE(age.empty());
  EXPECT_EQ(age.last_consumed(), at(0s));
}

}  // namespace
}  // namespace laggard::model
