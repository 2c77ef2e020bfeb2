// SPDX-License-Identifier: MIT
// What belongs together is told as one incident (detect/incidents.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

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

// A listener that nobody serves any more, a child in its queue, a client here that had a connection to it, and one of its own.
struct StaleListener {
  StaleListener()
  {
    listener.sample.state = model::TcpState::Listen;
    listener.sample.connected = false;
    listener.sample.tuple = {endpoint(0, 0, 0, 0, 80), {}};
    listener.sample.max_ack_backlog = 128;
    listener.sample.ack_backlog = 1;
    for (SceneSocket* socket : {&waiting, &own}) {
      socket->sample.tuple = {endpoint(10, 0, 0, 9, 80), socket->sample.tuple.local};
      socket->sample.accepted = true;
      socket->sample.connected = false;
    }
    waiting.sample.unaccepted = true;
    waiting.sample.has_file = false;
    waiting.holders.clear();
    left.sample.tuple.local.address = left.sample.tuple.peer.address;
    left.peer_closes();
  }
  // The server has exited, its child holds what it had.
  void inherit()
  {
    for (SceneSocket* socket : {&listener, &own})
      socket->holders = {child.id};
    scene.exit(server);
  }
  Finding only(Kind kind) const
  {
    const auto found = scene.opened(kind);
    EXPECT_THAT(found, SizeIs(1)) << detect::to_string(kind);
    return found.empty() ? Finding{} : last_line(scene, found[0].id);
  }
  std::map<std::uint64_t, std::uint64_t> causes() const
  {
    std::map<std::uint64_t, std::uint64_t> result;
    for (const Finding& opened : scene.lines(detect::Phase::Opened))
      if (const auto cause = last_line(scene, opened.id).symptom_of)
        result[opened.id] = *cause;
    return result;
  }
  Scene scene;
  SceneProcess& server = scene.process(17, "server");
  SceneProcess& child = scene.process(18, "sleep");
  SceneProcess& client = scene.process(19, "client");
  SceneSocket& listener = scene.tcp(server);
  SceneSocket& waiting = scene.tcp(server);
  SceneSocket& own = scene.tcp(server);
  SceneSocket& left = scene.tcp(client);
};

TEST(Incidents, ClientsThatAreLeftFollowFromAListenerThatNobodyServes)
{
  for (const bool inherited : {false, true}) {
    StaleListener it;
    if (inherited)
      it.inherit();
    it.scene.run(70s);
    const Finding backlog = it.only(Kind::AcceptBacklog);
    EXPECT_EQ(backlog.process.comm, inherited ? "sleep" : "server");
    EXPECT_FALSE(backlog.symptom_of);
    const Finding left = it.only(Kind::CloseWait);
    EXPECT_EQ(left.process.comm, "client");
    EXPECT_EQ(left.symptom_of, backlog.id);
    EXPECT_THAT(left.symptom_of_text, testing::HasSubstr("ACCEPT BACKLOG"));
    EXPECT_THAT(backlog.symptoms, ElementsAre(left.id));
  }
}

TEST(Incidents, ClientsOfAnotherPortNamespaceOrHostAreTheirOwnFault)
{
  const auto follows = [](const std::function<void(model::FullSample&)>& change) {
    StaleListener it;
    change(it.left.sample);
    it.scene.run(70s);
    return it.only(Kind::CloseWait).symptom_of.has_value();
  };
  EXPECT_TRUE(follows([](model::FullSample&) {}));
  EXPECT_FALSE(follows([](model::FullSample& left) { left.tuple.peer.port = 81; }));
  EXPECT_FALSE(follows([](model::FullSample& left) { left.netns++; }));
  EXPECT_FALSE(follows([](model::FullSample& left) { left.tuple.peer = endpoint(10, 0, 0, 77, 80); }));
}

TEST(Incidents, WhoHasInheritedTheListenerHasInheritedItsConnections)
{
  StaleListener it;
  it.inherit();
  it.own.peer_closes();
  it.left.read_eof();
  it.scene.destroy(it.left);
  it.scene.run(70s);
  const Finding own = it.only(Kind::CloseWait);
  EXPECT_EQ(own.process.comm, "sleep");
  EXPECT_EQ(own.symptom_of, it.only(Kind::AcceptBacklog).id);
}

TEST(Incidents, AServerThatDoesNotCloseIsNotTheVictimOfItsOwnQueue)
{
  StaleListener it;
  it.own.peer_closes();
  it.scene.destroy(it.left);
  it.scene.run(70s);
  const Finding backlog = it.only(Kind::AcceptBacklog);
  const Finding own = it.only(Kind::CloseWait);
  EXPECT_FALSE(own.symptom_of);
  EXPECT_EQ(backlog.symptom_of, own.id);
}

TEST(Incidents, NothingFollowsFromItself)
{
  for (const bool inherited : {false, true}) {
    StaleListener it;
    if (inherited)
      it.inherit();
    it.own.peer_closes();
    SceneSocket& unread = it.scene.tcp(inherited ? it.child : it.server);
    unread.sample.tuple = {endpoint(10, 0, 0, 9, 80), unread.sample.tuple.local};
    unread.sample.accepted = true;
    unread.sample.connected = false;
    unread.arrive(700);
    it.scene.run(120s);
    const auto causes = it.causes();
    EXPECT_THAT(causes, testing::Not(IsEmpty()));
    for (const auto& [symptom, cause] : causes) {
      std::uint64_t at = cause;
      std::size_t steps = 0;
      for (auto next = causes.find(at); next != causes.end() && steps <= causes.size(); next = causes.find(at), steps++)
        at = next->second;
      EXPECT_LE(steps, causes.size()) << "a circle";
    }
  }
}

}  // namespace
}  // namespace laggard::test
