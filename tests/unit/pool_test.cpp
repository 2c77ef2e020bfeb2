// SPDX-License-Identifier: MIT
// The table of idle sockets (model/pool.h) by itself.
#include "model/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace laggard::model {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;
using testing::SizeIs;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }
const ModelOptions kOptions{.idle = 30s};
constexpr ProcessId kProcess{17, 1};

Endpoint endpoint(std::uint8_t host, std::uint16_t port)
{
  Endpoint result;
  result.address.bytes = {10, 0, 0, host};
  result.port = port;
  return result;
}

struct Table {
  Pools pools;
  std::vector<PooledSample> samples;
  std::set<std::uint64_t> busy;
  std::set<std::uint16_t> listened;

  // Connections to one endpoint that are idle since then.
  void add(std::uint64_t cookie, Duration idle_since)
  {
    const Tuple tuple{endpoint(1, static_cast<std::uint16_t>(40'000 + cookie)), endpoint(9, 80)};
    PooledSample& sample = samples.emplace_back();
    sample.cookie = cookie;
    sample.owner = kProcess;
    sample.tuple = tuple;
    sample.connected = true;
    sample.idle_since = at(idle_since);
  }
  void remove(std::uint64_t cookie)
  {
    std::erase_if(samples, [&](const PooledSample& sample) { return sample.cookie == cookie; });
  }
  PooledSample& sample(std::uint64_t cookie) { return *std::ranges::find(samples, cookie, &PooledSample::cookie); }
  void look(Duration when)
  {
    pools.replace(samples, at(when), kOptions,
                  {.is_server = [&](const PooledSample& one) { return listened.contains(one.tuple.local.port); },
                   .is_busy = [&](std::uint64_t cookie) { return busy.contains(cookie); }});
  }
  const PoolHistory& history() const { return pools.histories().at(Pools::key_of(*pools.find(1))); }
  const PoolLook& last() const { return history().looks.back(); }
};

TEST(Pools, UnusedAreThoseThatAreIdleForLongEnough)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 10s);
  it.look(29s);
  EXPECT_EQ(it.last().unused, 0U);
  it.look(35s);
  EXPECT_EQ(it.last().unused, 2U);
  it.look(40s);
  EXPECT_EQ(it.last().unused, 3U);
  EXPECT_EQ(it.last().left, 0U);
  EXPECT_EQ(it.history().members, 3U);
  EXPECT_EQ(it.history().in_use, 0U);
}

TEST(Pools, AnUnusedOneThatIsClosedHasLeft)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 0s), it.add(4, 20s);
  it.look(35s);
  it.remove(2), it.remove(4);  // 4 was not unused yet
  it.look(41s);
  EXPECT_EQ(it.last().left, 1U);
  EXPECT_EQ(it.last().unused, 2U);
  EXPECT_EQ(it.pools.find(2), nullptr);
  EXPECT_EQ(it.pools.find(4), nullptr);
}

TEST(Pools, WhatIsForgottenBetweenTwoLooksHasLeftAsWell)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 0s);
  it.look(35s);
  it.pools.forget(2, kOptions);
  it.pools.forget(77, kOptions);
  EXPECT_EQ(it.pools.find(2), nullptr);
  EXPECT_EQ(it.history().left, 1U);
  it.remove(2);
  it.look(41s);
  EXPECT_EQ(it.last().left, 1U);
}

TEST(Pools, OneThatIsUsedAgainHasLeftAndIsInUseFromThenOn)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s);
  it.look(40s);
  it.sample(2).idle_since = at(42s);
  it.look(45s);
  EXPECT_EQ(it.last().left, 1U);
  EXPECT_EQ(it.last().unused, 1U);
  EXPECT_TRUE(it.pools.find(2)->is_in_use());
  EXPECT_FALSE(it.pools.find(2)->may_be_forgotten());
  EXPECT_EQ(it.pools.find(2)->longest_silence, 42s);
  EXPECT_EQ(it.history().in_use, 1U);
  EXPECT_EQ(it.history().longest_silence, 42s);
  it.look(300s);
  EXPECT_EQ(it.last().unused, 1U) << "it has shown that somebody listens";
}

TEST(Pools, APauseOfLessThanAThirdOfTheIdleTimeShowsNothing)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 0s);
  it.look(5s);
  it.sample(2).idle_since = at(9s);
  it.sample(3).idle_since = at(10s);
  it.look(11s);
  EXPECT_FALSE(it.pools.find(2)->is_in_use());
  EXPECT_TRUE(it.pools.find(3)->is_in_use());
}

TEST(Pools, TheLongestSilenceIsKept)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s);
  it.look(5s);
  for (const Duration when : {Duration{50s}, Duration{65s}, Duration{80s}}) {
    it.sample(2).idle_since = at(when);
    it.look(when + 1s);
  }
  EXPECT_EQ(it.pools.find(2)->longest_silence, 50s);
}

TEST(Pools, OneThatIsBusyAtTheLookStays)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 32s);
  it.look(35s);
  it.remove(2), it.remove(3);
  it.busy = {2, 3};
  it.look(40s);
  ASSERT_NE(it.pools.find(2), nullptr);
  EXPECT_TRUE(it.pools.find(2)->is_in_use());
  EXPECT_EQ(it.pools.find(2)->longest_silence, 40s);
  EXPECT_EQ(it.pools.find(2)->sample.idle_since, at(40s));
  ASSERT_NE(it.pools.find(3), nullptr);
  EXPECT_FALSE(it.pools.find(3)->is_in_use()) << "8 s";
  EXPECT_EQ(it.last().left, 1U);
  EXPECT_EQ(it.history().members, 3U);
  it.busy = {};
  it.look(45s);
  EXPECT_EQ(it.pools.find(2), nullptr);
}

TEST(Pools, TheRoleIsHowTheProcessCameToIt)
{
  Table it;
  for (std::uint64_t cookie = 1; cookie <= 8; cookie++)
    it.add(cookie, 0s);
  for (const std::uint64_t cookie : {3U, 4U})
    it.sample(cookie).accepted = true, it.sample(cookie).connected = false;
  for (const std::uint64_t cookie : {5U, 6U}) {
    it.sample(cookie).connected = false;  // older than we are
    it.sample(cookie).tuple.local.port = 8080;
  }
  for (const std::uint64_t cookie : {7U, 8U})
    it.sample(cookie).transport = Transport::Udp;
  it.listened = {8080};
  it.look(10s);
  const auto role = [&](std::uint64_t cookie) { return it.pools.find(cookie)->role; };
  EXPECT_EQ(role(1), Role::Opened);
  EXPECT_EQ(role(3), Role::Accepted);
  EXPECT_EQ(role(5), Role::Accepted);
  EXPECT_EQ(role(7), Role::Udp);
  EXPECT_EQ(Pools::key_of(*it.pools.find(1)).endpoint, endpoint(9, 80));
  EXPECT_EQ(Pools::key_of(*it.pools.find(5)).endpoint, (Endpoint{{}, 8080}));
  EXPECT_FALSE(Pools::role_of(*it.pools.find(1)).endpoint);
  // Two opened, four accepted at three ports, two of UDP: with their endpoint, and as a whole.
  EXPECT_EQ(it.pools.histories().at(Pools::role_of(*it.pools.find(3))).members, 4U);
  EXPECT_EQ(it.pools.histories().at(Pools::key_of(*it.pools.find(5))).members, 2U);
  EXPECT_FALSE(it.pools.histories().contains(Pools::key_of(*it.pools.find(3)))) << "alone at its port";
}

TEST(Pools, WhatAProcessHereHoldsAtTheOtherEndIsForThatOneToClose)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s), it.add(3, 0s), it.add(4, 0s);
  for (const std::uint64_t cookie : {3U, 4U})
    it.sample(cookie).accepted = true, it.sample(cookie).connected = false;
  it.sample(3).tuple = it.sample(1).tuple.reversed();
  it.look(40s);
  EXPECT_EQ(it.pools.find(3)->peer, 1U);
  EXPECT_FALSE(it.pools.find(3)->may_be_forgotten());
  EXPECT_EQ(it.pools.find(4)->peer, 0U);
  EXPECT_EQ(it.pools.find(1)->peer, 0U) << "who opened it has to close it";
  EXPECT_EQ(it.pools.histories().at(Pools::role_of(*it.pools.find(3))).looks.back().unused, 1U);
}

TEST(Pools, AcceptedAtCountsByPortAndNamespace)
{
  Table it;
  for (std::uint64_t cookie = 1; cookie <= 6; cookie++) {
    it.add(cookie, 0s);
    it.sample(cookie).accepted = cookie != 6;
    it.sample(cookie).tuple.local = endpoint(static_cast<std::uint8_t>(cookie), 8080);
  }
  it.sample(2).netns = 7;
  it.sample(3).tuple.local.port = 9090;
  it.look(10s);
  EXPECT_EQ(it.pools.accepted_at(0, {{}, 8080}), 3U);
  EXPECT_EQ(it.pools.accepted_at(7, {{}, 8080}), 1U);
  EXPECT_EQ(it.pools.accepted_at(0, {{}, 80}), 0U);
}

TEST(Pools, NamespacesAreSetsOfTheirOwnAndSoAreProcesses)
{
  Table it;
  for (std::uint64_t cookie = 1; cookie <= 6; cookie++)
    it.add(cookie, 0s);
  it.sample(3).netns = it.sample(4).netns = 7;
  it.sample(5).owner = it.sample(6).owner = {18, 1};
  it.look(40s);
  EXPECT_THAT(it.pools.histories(), SizeIs(6));  // each with and without its endpoint
  EXPECT_EQ(it.history().members, 2U);
}

TEST(Pools, LooksReachThreeTimesTheIdleTimeBack)
{
  Table it;
  it.add(1, 0s), it.add(2, 0s);
  for (Duration when = 5s; when <= 600s; when += 5s)
    it.look(when);
  const auto& looks = it.history().looks;
  EXPECT_GE(looks.back().time - looks.front().time, 90s);
  EXPECT_LE(looks.size(), 40U);
  it.samples.pop_back();
  it.look(605s);
  EXPECT_THAT(it.pools.histories(), IsEmpty());
}

}  // namespace
}  // namespace laggard::model
