// SPDX-License-Identifier: MIT
// What belongs together is told as one incident (detect/incidents.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;
using detect::Finding;
using detect::Kind;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

Finding last_line(const Scene& scene, std::uint64_t id)
{
  Finding last;
  for (const Finding& finding : scene.findings())
    if (finding.id == id)
      last = finding;
  return last;
}

// A sender and a reader of one connection, both here; the reader never reads.
struct BothEnds {
  BothEnds()
  {
    scene.can_attribute = true;
    receiver.sample.tuple = sender.sample.tuple.reversed();
    receiver.sample.accepted = true;
    receiver.sample.connected = false;
    Scene::connect(sender, receiver);
    sender.sends(1e6);
  }
  Scene scene;
  SceneProcess& producer = scene.process(17, "producer");
  SceneProcess& consumer = scene.process(18, "consumer");
  SceneSocket& sender = scene.tcp(producer);
  SceneSocket& receiver = scene.tcp(consumer);
};

TEST(Incidents, TheVictimPointsToTheGuiltyEnd)
{
  BothEnds it;
  it.scene.run(60s);
  ASSERT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  const Finding guilty = it.scene.opened(Kind::StalledReader)[0];
  EXPECT_EQ(guilty.process.comm, "consumer");
  const auto victims = it.scene.opened(Kind::RemoteSlowReader);
  ASSERT_THAT(victims, SizeIs(1));
  const Finding victim = last_line(it.scene, victims[0].id);
  EXPECT_EQ(victim.process.comm, "producer");
  EXPECT_EQ(victim.peer_finding, guilty.id);
  EXPECT_EQ(victim.symptom_of, guilty.id);
  EXPECT_EQ(victim.symptom_of_text, "STALLED READER consumer[18]");
  const Finding now = last_line(it.scene, guilty.id);
  EXPECT_THAT(now.symptoms, ElementsAre(victim.id));
  EXPECT_EQ(now.peer_finding, victim.id);
  EXPECT_FALSE(now.symptom_of);
}

// What all lines about a finding named as its cause, one after the other.
std::vector<std::uint64_t> causes_of(const Scene& scene, Kind kind)
{
  std::vector<std::uint64_t> causes;
  for (const Finding& finding : scene.findings())
    if (finding.kind == kind && finding.symptom_of && (causes.empty() || causes.back() != *finding.symptom_of))
      causes.push_back(*finding.symptom_of);
  return causes;
}

TEST(Incidents, TheVictimOfAReaderThatStopsHasOneCause)
{
  BothEnds it;
  it.receiver.drains(65'536, 100);
  it.scene.run(20s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.receiver.reads(0, 0);
  it.scene.run(60s);
  ASSERT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::SlowReader), IsEmpty());
  EXPECT_THAT(causes_of(it.scene, Kind::RemoteSlowReader), ElementsAre(it.scene.opened(Kind::StalledReader)[0].id));
}

TEST(Incidents, WhereASlowReaderStopsTheVictimsCauseChangesOnce)
{
  BothEnds it;
  it.receiver.reads(9'000, 100);
  it.scene.run(40s);
  ASSERT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
  it.receiver.reads(0, 0);
  it.scene.run(60s);
  ASSERT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(causes_of(it.scene, Kind::RemoteSlowReader),
              ElementsAre(it.scene.opened(Kind::SlowReader)[0].id, it.scene.opened(Kind::StalledReader)[0].id));
}

TEST(Incidents, MemoryThatFillsUpBehindAReaderFollowsFromIt)
{
  BothEnds it;
  it.producer.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  it.scene.run(90s);
  ASSERT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  const Finding growth = it.scene.opened(Kind::HeapGrowth)[0];
  EXPECT_EQ(growth.symptom_of, it.scene.opened(Kind::StalledReader).at(0).id);
}

TEST(Incidents, AnotherProgramsMemoryStandsAlone)
{
  BothEnds it;
  SceneProcess& leaker = it.scene.process(19, "leaker");
  it.scene.tcp(leaker);
  leaker.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  it.scene.run(90s);
  ASSERT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  EXPECT_FALSE(it.scene.opened(Kind::HeapGrowth)[0].symptom_of);
}

// A server that stands still: one connection unread, one that the peer gave up on, of one listening endpoint.
struct StuckServer {
  StuckServer()
  {
    int port = 50000;
    for (SceneSocket* socket : {&stalled, &left}) {
      socket->sample.tuple = {endpoint(10, 0, 0, 1, 80), endpoint(10, 0, 0, 7, static_cast<std::uint16_t>(port++))};
      socket->sample.accepted = true;
      socket->sample.connected = false;
    }
    stalled.arrive(1000);
    left.peer_closes();
  }
  Scene scene;
  SceneProcess& server = scene.process(17, "server");
  SceneSocket& stalled = scene.tcp(server);
  SceneSocket& left = scene.tcp(server);
};

TEST(Incidents, ConnectionsThatPeersGaveUpFollowFromAServerThatDoesNotRead)
{
  StuckServer it;
  it.scene.run(30s);
  ASSERT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  const std::uint64_t cause = it.scene.opened(Kind::StalledReader)[0].id;
  it.scene.run(60s);
  const auto closed = it.scene.opened(Kind::CloseWait);
  ASSERT_THAT(closed, SizeIs(1));
  EXPECT_EQ(closed[0].symptom_of, cause);
  EXPECT_FALSE(closed[0].peer_finding);
  EXPECT_THAT(last_line(it.scene, cause).symptoms, Contains(closed[0].id));
}

TEST(Incidents, AnotherEndpointOfTheSameProgramStandsAlone)
{
  StuckServer it;
  it.left.sample.tuple.local.port = 8080;
  it.scene.run(90s);
  ASSERT_THAT(it.scene.opened(Kind::CloseWait), SizeIs(1));
  EXPECT_FALSE(it.scene.opened(Kind::CloseWait)[0].symptom_of);
  EXPECT_THAT(last_line(it.scene, it.scene.opened(Kind::StalledReader).at(0).id).symptoms, IsEmpty());
}

// A UDP service that stops reading, and loses what comes from then on.
TEST(Incidents, DatagramsAreLostBecauseNobodyReads)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.reads(100, 1000).arrives(50'000);
  scene.run(10s);
  socket.reads(100, 0);
  scene.run(30s);
  ASSERT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  ASSERT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
  const Finding overflow = last_line(scene, scene.opened(Kind::UdpReceiveOverflow)[0].id);
  const Finding stalled = last_line(scene, scene.opened(Kind::StalledReader)[0].id);
  EXPECT_EQ(overflow.symptom_of, stalled.id);
  EXPECT_THAT(stalled.symptoms, ElementsAre(overflow.id));
}

TEST(Incidents, AnUnreadStreamDoesNotExplainLostDatagramsAtThePortOfTheSameNumber)
{
  Scene scene;
  SceneProcess& server = scene.process(17, "resolver");
  SceneSocket& datagrams = scene.udp(server);
  SceneSocket& stream = scene.tcp(server);
  stream.sample.tuple.local = datagrams.sample.tuple.local;
  stream.sample.accepted = true;
  stream.sample.connected = false;
  stream.arrive(1000);
  datagrams.reads(1000, 100).arrives(1e6);
  scene.run(30s);
  ASSERT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  ASSERT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
  EXPECT_THAT(causes_of(scene, Kind::UdpReceiveOverflow), IsEmpty());
}

TEST(Incidents, ACauseThatEndsIsPointedToNoMore)
{
  StuckServer it;
  it.scene.run(90s);
  it.stalled.read(1000);
  it.scene.run(30s);
  const std::uint64_t closed = it.scene.opened(Kind::CloseWait).at(0).id;
  it.scene.stop();
  EXPECT_FALSE(last_line(it.scene, closed).symptom_of);
}

TEST(Incidents, NewsIsSaidOnceAndNotAtEveryTick)
{
  StuckServer it;
  it.scene.run(75s);
  const auto lines = it.scene.findings().size();
  it.scene.run(3s);
  EXPECT_EQ(it.scene.findings().size(), lines);
}

}  // namespace
}  // namespace laggard::test
