// SPDX-License-Identifier: MIT
// dead-peer, clause by clause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using detect::Severity;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// ---- what this process opened ----

struct Client {
  explicit Client(detect::DetectorOptions options = {}, Duration interval = 1s) : scene(std::move(options), interval)
  {
    socket.sample.retransmits_limit = 15;
    socket.send(100);
    socket.arrive(700);
    socket.read(700);
    scene.run(10s);
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "client");
  SceneSocket& socket = scene.tcp(process);

  void ask_the_dead()
  {
    socket.loses_peer();
    socket.send(100);
  }
  bool silent_for(Duration duration)
  {
    scene.run(duration);
    return scene.findings().empty();
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::DeadPeer); }
  std::string details() const
  {
    std::string all;
    for (const std::string& line : scene.findings().back().details)
      all += line + '\n';
    return all;
  }
};

TEST(DeadPeer, OneIsEnoughForWhoOpenedIt)
{
  Client it;
  it.ask_the_dead();
  EXPECT_TRUE(it.silent_for(14s));
  it.scene.run(4s);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_EQ(found[0].process.comm, "client");
  EXPECT_FALSE(found[0].start_is_lower_bound);
  EXPECT_EQ(evidence(found[0], "send_queue_bytes"), 100);
  EXPECT_GE(evidence(found[0], "unacknowledged_seconds"), 15);
  EXPECT_GE(evidence(found[0], "retransmits"), 5);
  EXPECT_GE(evidence(found[0], "last_heard_seconds"), 15);
  EXPECT_EQ(evidence(found[0], "keepalive"), 0);
  EXPECT_FALSE(has_evidence(found[0], "listener_connections"));
  EXPECT_THAT(found[0].message, HasSubstr("100 B sent and nothing acknowledged"));
  EXPECT_THAT(found[0].advice, HasSubstr("TCP_USER_TIMEOUT"));
  ASSERT_THAT(found[0].thresholds, SizeIs(1));
  EXPECT_EQ(found[0].thresholds[0].name, "dead_peer_seconds");
}

TEST(DeadPeer, HoweverOftenWeLookItIsTheSame)
{
  for (const Duration interval : {Duration{250ms}, Duration{2s}, Duration{5s}}) {
    Client it{{}, interval};
    it.ask_the_dead();
    it.scene.run(30s);
    EXPECT_THAT(it.opened(), SizeIs(1)) << seconds(interval);
  }
}

TEST(DeadPeer, WhoGoesOnWritingDoesNotStartItAgain)
{
  Client it;
  it.ask_the_dead();
  it.socket.sends(1'000);
  it.scene.run(20s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(DeadPeer, TheTimeIsAnOption)
{
  detect::DetectorOptions options;
  options.thresholds.dead_peer = 40s;
  Client it{options};
  it.ask_the_dead();
  EXPECT_TRUE(it.silent_for(39s));
  it.scene.run(4s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(DeadPeer, ATimerThatHasFiredOnceIsALossOnThePath)
{
  Client it;
  it.socket.send(100, false);
  it.socket.sample.retransmits = 1;
  EXPECT_TRUE(it.silent_for(120s));
  it.socket.sample.retransmits = 2;
  it.scene.run(3s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(DeadPeer, APathThatLosesButAcknowledgesIsAlive)
{
  Client it;
  for (int i = 0; i < 60; i++) {
    it.socket.loses_peer();
    it.socket.send(1'000);
    EXPECT_TRUE(it.silent_for(4s));
    it.socket.peer_answers();
  }
  EXPECT_TRUE(it.silent_for(60s));
}

TEST(DeadPeer, AnAcknowledgedPartStartsTheTimeAgain)
{
  Client it;
  it.socket.loses_peer();
  it.socket.send(10'000);
  for (int i = 0; i < 20; i++) {
    EXPECT_TRUE(it.silent_for(10s));
    it.socket.sample.snd_una += 100;
  }
}

TEST(DeadPeer, AShutWindowWhoseProbesAreAnsweredIsASlowReaders)
{
  Client it;
  it.socket.send(5'000, false);
  for (int i = 0; i < 40; i++) {
    it.socket.sample.rwnd_limited += 1s;
    it.socket.sample.probes_unanswered = i % 2 != 0;
    it.scene.run(1s);
  }
  EXPECT_THAT(it.opened(), IsEmpty());
  EXPECT_THAT(it.scene.opened(Kind::RemoteSlowReader), SizeIs(1));
}

TEST(DeadPeer, AShutWindowWhoseProbesAreNotAnsweredIsADeadPeers)
{
  Client it;
  it.socket.send(5'000, false);
  for (int i = 0; i < 40; i++) {
    it.socket.sample.rwnd_limited += 1s;
    it.socket.sample.probes_unanswered = static_cast<std::uint8_t>(2 + i / 10);
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_GE(evidence(it.opened()[0], "probes_unanswered"), 2);
  EXPECT_THAT(it.scene.opened(Kind::RemoteSlowReader), IsEmpty());
}

TEST(DeadPeer, NothingOnItsWayNothingUnanswered)
{
  Client it;
  it.socket.sample.probes_unanswered = 5;  // of keepalive
  EXPECT_TRUE(it.silent_for(120s));
}

TEST(DeadPeer, AnOrphanIsTheKernelsBusiness)
{
  Client it;
  it.scene.walks_holders = false;
  it.ask_the_dead();
  it.socket.orphan();
  EXPECT_TRUE(it.silent_for(120s));
}

TEST(DeadPeer, WhatIsOlderThanWeAreIsALowerBound)
{
  Client it;
  SceneSocket& older = it.scene.tcp(it.process);
  older.sample.older_than_observer = true;
  older.sample.opened = {};
  older.loses_peer();
  older.send(100);
  older.sample.retransmits = 9;
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_TRUE(it.opened()[0].start_is_lower_bound);
  EXPECT_THAT(it.opened()[0].message, HasSubstr("at least"));
}

TEST(DeadPeer, SaysWhenTheKernelGivesUp)
{
  Client it;
  it.ask_the_dead();
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_NEAR(evidence(it.opened()[0], "gives_up_seconds"), 924.6, 0.01);  // Documentation/networking/ip-sysctl.rst
  EXPECT_THAT(it.details(), HasSubstr("the kernel gives up 15 min after the first retransmission (tcp_retries2 = 15)"));
}

TEST(DeadPeer, FewRetriesEndBeforeTheLongestTimeout)
{
  Client it;
  it.socket.sample.retransmits_limit = 8;
  it.ask_the_dead();
  it.scene.run(18s);
  EXPECT_NEAR(evidence(it.opened().at(0), "gives_up_seconds"), 102.2, 0.01);  // RFC 1122 asks for 100 s: hence 8
}

TEST(DeadPeer, ATimeoutOfTheUsersOwnComesFirst)
{
  Client it;
  it.socket.sample.user_timeout = 40s;
  it.ask_the_dead();
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(evidence(it.opened()[0], "gives_up_seconds"), 40);
  EXPECT_THAT(it.details(), HasSubstr("(TCP_USER_TIMEOUT)"));
  EXPECT_THAT(it.opened()[0].advice, testing::Not(HasSubstr("set TCP_USER_TIMEOUT")));
}

TEST(DeadPeer, WhereNothingIsKnownOfTheLimitNothingIsSaid)
{
  Client it;
  it.socket.sample.retransmits_limit = 0;
  it.ask_the_dead();
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_FALSE(has_evidence(it.opened()[0], "gives_up_seconds"));
}

TEST(DeadPeer, KeepaliveIsSaidNotToHelp)
{
  Client it;
  it.socket.sample.keepalive = true;
  it.ask_the_dead();
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(evidence(it.opened()[0], "keepalive"), 1);
  EXPECT_THAT(it.details(), HasSubstr("keepalive does not help"));
}

TEST(DeadPeer, APeerThatIsStillHeardIsSaid)
{
  Client it;
  it.ask_the_dead();
  it.socket.arrives(100).drains(4'096, 10);
  it.scene.run(18s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_LE(evidence(it.opened()[0], "last_heard_seconds"), 1);
  EXPECT_THAT(it.opened()[0].advice, HasSubstr("MTU"));
}

TEST(DeadPeer, AnAnswerResolvesItAndSoDoesTheEnd)
{
  Client it;
  it.ask_the_dead();
  it.scene.run(30s);
  it.socket.peer_answers();
  it.scene.run(10s);
  auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Subsided);

  it.ask_the_dead();
  it.scene.run(30s);
  it.scene.destroy(it.socket);
  it.scene.run(2s);
  resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(2));
  EXPECT_EQ(resolved[1].resolution, Resolution::Closed);
}

TEST(DeadPeer, TenTimesItsTimeIsCritical)
{
  Client it;
  it.ask_the_dead();
  it.scene.run(145s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Warning);
  it.scene.run(10s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
}

TEST(DeadPeer, MemoryThatFillsUpFollowsFromIt)
{
  Client it;
  it.scene.can_attribute = true;
  it.process.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  SceneProcess& other = it.scene.process(18, "other");
  it.scene.tcp(other);
  it.ask_the_dead();
  it.scene.run(90s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  const auto growth = it.scene.opened(Kind::HeapGrowth);
  ASSERT_THAT(growth, SizeIs(1));
  EXPECT_EQ(growth[0].symptom_of, it.opened()[0].id);
  EXPECT_THAT(growth[0].symptom_of_text, HasSubstr("DEAD PEER client[17]"));
}

// ---- what it accepted ----

struct Server {
  explicit Server(int clients, detect::DetectorOptions options = {}) : scene(std::move(options))
  {
    for (int i = 0; i < clients; i++) {
      SceneSocket& socket = scene.tcp(process);
      socket.sample.tuple = {endpoint(10, 0, 0, 1, 8080), socket.sample.tuple.local};
      socket.sample.accepted = true;
      socket.sample.connected = false;
      socket.arrive(100);
      socket.read(100);
      socket.send(1'000);
      connections.push_back(&socket);
    }
    scene.run(10s);
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "server");
  std::vector<SceneSocket*> connections;

  std::vector<Finding> with_dead(std::size_t how_many)
  {
    for (SceneSocket* socket : std::span(connections).first(how_many)) {
      socket->loses_peer();
      socket->send(1'000);
    }
    scene.run(40s);
    return scene.opened(Kind::DeadPeer);
  }
};

TEST(DeadPeer, NineOfFourHundredClientsAreNoNews)
{
  Server it{400};
  EXPECT_THAT(it.with_dead(9), IsEmpty());
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(DeadPeer, TenClientsAtOnceAreOneFinding)
{
  Server it{400};
  const auto found = it.with_dead(10);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].count, 10U);
  EXPECT_TRUE(found[0].is_group);
  EXPECT_THAT(found[0].message, HasSubstr("10 of 400 clients acknowledge nothing any more"));
  EXPECT_EQ(evidence(found[0], "listener_connections"), 400);
  ASSERT_TRUE(found[0].socket);
  EXPECT_TRUE(found[0].socket->accepted);
  ASSERT_THAT(found[0].thresholds, SizeIs(3));
  EXPECT_EQ(found[0].thresholds[1].name, "dead_peer_count");
  EXPECT_EQ(found[0].thresholds[2].name, "dead_peer_share_ratio");
}

TEST(DeadPeer, ThreeOfTwentyClientsAreAShare)
{
  Server it{20};
  const auto found = it.with_dead(3);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].message, HasSubstr("3 of 20 clients"));
}

TEST(DeadPeer, TwoClientsInATunnelAreNoNewsEvenIfTheyAreAll)
{
  Server it{2};
  EXPECT_THAT(it.with_dead(2), IsEmpty());
}

TEST(DeadPeer, ThreeOfAHundredAreNoShare)
{
  Server it{100};
  EXPECT_THAT(it.with_dead(3), IsEmpty());
}

TEST(DeadPeer, CountAndShareAreOptions)
{
  detect::DetectorOptions options;
  options.thresholds.dead_peer_count = 4;
  Server few{400, options};
  EXPECT_THAT(few.with_dead(4), SizeIs(1));
  options.thresholds.dead_peer_count = 10;
  options.thresholds.dead_peer_share = 0.01;
  Server share{400, options};
  EXPECT_THAT(share.with_dead(4), SizeIs(1));
  options.thresholds.dead_peer_share = 0.5;
  Server large{18, options};
  EXPECT_THAT(large.with_dead(8), IsEmpty());
}

TEST(DeadPeer, ClientsOfTwoPortsDoNotAddUp)
{
  Server it{400};
  for (std::size_t i = 0; i < it.connections.size(); i += 2)
    it.connections[i]->sample.tuple.local.port = 9090;
  EXPECT_THAT(it.with_dead(14), IsEmpty());
}

TEST(DeadPeer, ClientsThatReachedItAtTwoAddressesAddUp)
{
  Server it{400};
  for (std::size_t i = 0; i < it.connections.size(); i += 2)
    it.connections[i]->sample.tuple.local = endpoint(10, 0, 0, 2, 8080);
  std::uint64_t count = 0;
  for (const Finding& found : it.with_dead(14))
    count += found.count;
  EXPECT_EQ(count, 14U);
}

TEST(DeadPeer, WhoVanishesOneAfterTheOtherIsOneFindingThatGrows)
{
  Server it{100};
  for (SceneSocket* socket : it.connections) {
    socket->loses_peer();
    socket->send(1'000);
    it.scene.run(2s);
  }
  it.scene.run(20s);
  EXPECT_THAT(it.scene.opened(Kind::DeadPeer), SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  EXPECT_GE(it.scene.findings().back().count, 60U);
  EXPECT_THAT(it.scene.lines(Phase::Updated), Contains(testing::Field(&Finding::message, HasSubstr("; was "))));
}

TEST(DeadPeer, HalfOfTheCountKeepsItOpen)
{
  Server it{400};
  ASSERT_THAT(it.with_dead(12), SizeIs(1));
  for (std::size_t i = 5; i < 12; i++)
    it.connections[i]->peer_answers();
  it.scene.run(30s);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  it.connections[4]->peer_answers();
  it.scene.run(10s);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), SizeIs(1));
}

}  // namespace
}  // namespace laggard::test
