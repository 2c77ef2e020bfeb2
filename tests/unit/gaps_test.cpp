// SPDX-License-Identifier: MIT
#include "model/gaps.h"

#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::model {
namespace {

using namespace std::chrono_literals;

constexpr MonoTime at(Duration time) { return MonoTime{time}; }

TEST(Gaps, LooksThatAreALittleLateAreNone)
{
  Gaps gaps;
  gaps.observe(at(10s), at(13s), 1s);
  gaps.observe(at(13s), at(15s), 100ms);  // as long as a busy machine holds up a thread
  EXPECT_EQ(gaps.latest(), 0s);
  EXPECT_EQ(gaps.total(), 0s);
}

TEST(Gaps, OneLastsFromLookToLook)
{
  Gaps gaps;
  gaps.observe(at(10s), at(13001ms), 1s);
  EXPECT_EQ(gaps.latest(), 3001ms);
  gaps.observe(at(13001ms), at(14s), 1s);
  EXPECT_EQ(gaps.latest(), 0s);
  EXPECT_EQ(gaps.longest(), 3001ms);
  EXPECT_EQ(gaps.total(), 3001ms);
}

TEST(Gaps, SlowLooksHaveLongerOnes)
{
  Gaps gaps;
  gaps.observe(at(10s), at(40s), 10s);
  EXPECT_EQ(gaps.total(), 0s);
  gaps.observe(at(40s), at(71s), 10s);
  EXPECT_EQ(gaps.total(), 31s);
}

TEST(Gaps, ARecordingThatDoesNotSayHowOftenHasNone)
{
  Gaps gaps;
  gaps.observe(at(10s), at(100s), 0s);
  EXPECT_EQ(gaps.total(), 0s);
}

TEST(Gaps, WhatBeganMeanwhileHasItsPartOfIt)
{
  Gaps gaps;
  gaps.observe(at(10s), at(20s), 1s);
  gaps.observe(at(30s), at(37s), 1s);
  EXPECT_EQ(gaps.since(at(5s)), 17s);
  EXPECT_EQ(gaps.since(at(13s)), 14s);
  EXPECT_EQ(gaps.since(at(20s)), 7s);
  EXPECT_EQ(gaps.since(at(40s)), 0s);
}

TEST(Gaps, ManyAreStillCounted)
{
  Gaps gaps;
  for (int i = 0; i < 100; i++)
    gaps.observe(at(i * 10s), at(i * 10s + 5s), 1s);
  EXPECT_EQ(gaps.total(), 500s);
  EXPECT_EQ(gaps.since(at(0s)), 500s);
  EXPECT_EQ(gaps.since(at(990s)), 5s);
}

}  // namespace
}  // namespace laggard::model
