// SPDX-License-Identifier: MIT
// Each clause of the rules about queues other than a TCP reader's own: datagrams, accept queues, what a peer does not take.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using detect::Severity;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

double threshold(const Finding& finding, std::string_view name)
{
  for (const detect::Field& field : finding.thresholds)
    if (field.name == name)
      return std::get<double>(field.value);
  ADD_FAILURE() << "no threshold '" << name << "'";
  return 0;
}

// ---- udp-receive-overflow ----

struct Resolver {
  explicit Resolver(detect::DetectorOptions options = {}, Duration interval = 1s) : scene(std::move(options), interval)
  {
    socket.reads(100, 1000);
    socket.arrives(50'000);  // 500 datagrams a second: easily read
    scene.run(10s);
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "resolver");
  SceneSocket& socket = scene.udp(process);

  // Lost in the coming second.
  void lose(std::uint32_t datagrams)
  {
    socket.sample.drops += datagrams;
    scene.run(1s);
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::UdpReceiveOverflow); }
};

TEST(UdpReceiveOverflow, LossAtThreeOfFiveLooksIsFoundHoweverLittle)
{
  Resolver it;
  it.lose(1), it.lose(0), it.lose(1), it.lose(0);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.lose(1);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].severity, Severity::Critical);
  EXPECT_EQ(found[0].process.comm, "resolver");
  EXPECT_EQ(evidence(found[0], "drops_total"), 3);
  EXPECT_GT(evidence(found[0], "drops_per_second"), 0);
  EXPECT_EQ(evidence(found[0], "recv_queue_limit_bytes"), 212'992);
  EXPECT_EQ(threshold(found[0], "drop_share_ratio"), 0.01);
}

TEST(UdpReceiveOverflow, LossAtTwoOfFiveLooksIsAHiccupUnlessItIsAShare)
{
  Resolver it;
  for (int i = 0; i < 10; i++) {
    it.lose(5), it.lose(0), it.lose(0), it.lose(0);  // 5 of 2000: a quarter of a percent
    EXPECT_THAT(it.scene.findings(), IsEmpty());
  }
}

TEST(UdpReceiveOverflow, AShareOfWhatArrivesIsFoundOnceTheHoldTimeIsCovered)
{
  Resolver it;
  it.lose(30), it.lose(0), it.lose(0);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.lose(30), it.lose(0);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_NEAR(evidence(found[0], "drops_ratio"), 60.0 / 2560, 0.003);
}

TEST(UdpReceiveOverflow, TheShareIsAnOption)
{
  detect::DetectorOptions options;
  options.thresholds.drop_share = 0.05;
  Resolver it{options};
  for (int i = 0; i < 10; i++)
    it.lose(30), it.lose(0), it.lose(0);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  for (int i = 0; i < 10; i++)
    it.lose(300), it.lose(0), it.lose(0);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(threshold(it.opened()[0], "drop_share_ratio"), 0.05);
}

TEST(UdpReceiveOverflow, OneHiccupIsSilentHoweverMuchItLost)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}, Duration{2s}}) {
    Resolver it{{}, interval};
    it.socket.sample.drops += 400;
    it.scene.run(interval);
    it.socket.sample.drops += 200;  // it lasted beyond a look
    it.scene.run(60s);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds(interval);
  }
}

// A sweep shows such a socket when a burst has come, and not in between: it is not read then, and holds nothing.
TEST(UdpReceiveOverflow, BurstsThatAreDrainedInBetweenAreFound)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}})
    for (const Duration period : {Duration{1s}, Duration{2s}, Duration{3s}, Duration{4s}}) {
      Scene scene{{}, interval};
      SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
      socket.reads(100, 50'000);  // woken by what arrives: one that polls would be shown at every sweep
      for (int i = 0; i < 10; i++) {
        socket.arrive_datagrams(490, 100);  // room is for half of them
        scene.run(period);
      }
      ASSERT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1)) << seconds(period) << " s, looks " << seconds(interval);
      const Finding found = scene.findings()[0];
      EXPECT_EQ(found.process.comm, "resolver");
      EXPECT_NEAR(evidence(found, "drops_ratio"), 0.5, 0.05);
      EXPECT_THAT(found.quality.missing, IsEmpty());
      EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty());
      scene.run(30s);
      EXPECT_THAT(scene.lines(Phase::Resolved), SizeIs(1));
      EXPECT_THAT(scene.findings(), testing::Each(testing::Field(&Finding::kind, Kind::UdpReceiveOverflow)));
      scene.run(60s);
      EXPECT_EQ(scene.model().find(socket.sample.cookie), nullptr) << "idle: nothing to remember";
    }
}

TEST(UdpReceiveOverflow, WorkersThatShareASocketAreOneIncident)
{
  Scene scene;
  SceneProcess& first = scene.process(17, "worker");
  SceneSocket& socket = scene.udp(first);
  for (std::uint32_t tgid : {18U, 19U, 20U})
    socket.holders.push_back(scene.process(tgid, "worker").id);
  std::uint32_t turn = 0;
  scene.alter = [&](model::Tick& tick) {
    turn++;
    for (model::FullSample& sample : tick.sockets)
      sample.reader_tgid = 17 + turn % 4;
    tick.walked_holders = true;
    tick.holders.clear();
    for (model::ProcessId holder : socket.holders)
      tick.holders.push_back({socket.sample.cookie, holder, 3});
  };
  socket.reads(1000, 100).arrives(1e6);
  scene.run(60s);
  ASSERT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
  EXPECT_THAT(scene.opened(Kind::UdpReceiveOverflow)[0].holders, SizeIs(4));
  EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty());
}

TEST(UdpReceiveOverflow, BurstsThatAreFarApartAreHiccups)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.reads(100, 50'000);
  for (int i = 0; i < 5; i++) {
    socket.arrive_datagrams(490, 100);
    scene.run(70s);
  }
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(UdpReceiveOverflow, WhatWasLostBeforeWeLookedSaysNothing)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.sample.drops = 1'000'003;
  socket.sample.older_than_observer = true;
  socket.reads(100, 1000).arrives(50'000);
  scene.run(60s);
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(UdpReceiveOverflow, AReaderThatIsTooSlowForGoodIsFoundAndResolvedWhenItKeepsUp)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.reads(1000, 100).arrives(1e6);
  scene.run(20s);
  ASSERT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
  EXPECT_NEAR(evidence(scene.opened(Kind::UdpReceiveOverflow)[0], "drops_ratio"), 0.9, 0.1);
  socket.reads(1000, 5000);
  scene.run(20s);
  const auto resolved = scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Subsided);
  EXPECT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
}

TEST(UdpReceiveOverflow, ASocketThatNoProcessHoldsHasNoReader)
{
  Resolver it;
  it.scene.walks_holders = false;
  it.socket.orphan();
  for (int i = 0; i < 10; i++)
    it.lose(100);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(UdpReceiveOverflow, DropsOfATcpSocketAreSentAgain)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "client"));
  for (int i = 0; i < 20; i++) {
    socket.sample.drops += 100;
    scene.run(1s);
  }
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(UdpReceiveOverflow, ASocketThatDoesNotDropKeepsNoHistory)
{
  Resolver it;
  const model::Connection* connection = it.scene.model().find(it.socket.sample.cookie);
  ASSERT_NE(connection, nullptr);
  EXPECT_EQ(connection->drop_history().capacity(), 0U);
  it.lose(1);
  EXPECT_THAT(connection->drop_history(), SizeIs(2));
  it.scene.run(20s);
  EXPECT_EQ(connection->drop_history().capacity(), 0U);
}

// ---- remote-slow-reader ----

// Offers 100 kB/s; the peer takes so much of it, and its window is shut for so much of the time.
struct Uploader {
  explicit Uploader(detect::DetectorOptions options = {}) : scene(std::move(options)) {}
  Scene scene;
  SceneProcess& process = scene.process(17, "uploader");
  SceneSocket& socket = scene.tcp(process);

  void upload(Duration duration, double taken, double limited)
  {
    for (const MonoTime end = scene.now() + duration; scene.now() < end;) {
      model::FullSample& sample = socket.sample;
      socket.send(100'000, false);
      const auto bytes = static_cast<std::uint32_t>(100'000 * taken);
      sample.snd_una += std::min(bytes, sample.write_seq - sample.snd_una);
      sample.rwnd_limited += Duration{static_cast<std::int64_t>(1e9 * limited)};
      scene.run(1s);
    }
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::RemoteSlowReader); }
};

TEST(RemoteSlowReader, AQueueThatThePeersWindowHoldsBackForLongerThanTheLagIsFound)
{
  Uploader it;
  it.upload(5s, 0.5, 0.9);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.upload(5s, 0.5, 0.9);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "uploader");
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_GE(evidence(found[0], "lag_seconds"), 1);
  EXPECT_NEAR(evidence(found[0], "rwnd_limited_ratio"), 0.9, 0.01);
  EXPECT_GE(evidence(found[0], "send_queue_bytes"), 100'000);
  EXPECT_EQ(threshold(found[0], "rwnd_share_ratio"), 0.5);
  EXPECT_EQ(threshold(found[0], "lag_seconds"), 1);
}

TEST(RemoteSlowReader, BeingHeldBackAloneIsNormal)
{
  Uploader it;
  it.upload(120s, 1, 0.73);  // nginx: some is always on its way, none of it old
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(RemoteSlowReader, ALossyPathIsBehindWithoutAnyReaderBeingSlow)
{
  Uploader it;
  it.upload(120s, 0.5, 0.4);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(RemoteSlowReader, TheShareIsAnOption)
{
  detect::DetectorOptions options;
  options.thresholds.rwnd_share = 0.3;
  Uploader it{options};
  it.upload(15s, 0.5, 0.4);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(RemoteSlowReader, ALagThatEndsBeforeTheHoldTimeIsSilent)
{
  Uploader it;
  it.upload(3s, 0, 1);
  it.upload(60s, 2, 1);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(RemoteSlowReader, AnOrphanThatIsStillSentOutHasNoProcess)
{
  Uploader it;
  it.scene.walks_holders = false;
  it.socket.orphan();
  it.upload(60s, 0, 1);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(RemoteSlowReader, TenTimesTheLagIsCriticalAndAnEmptyQueueResolvesIt)
{
  Uploader it;
  it.upload(9s, 0, 1);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].severity, Severity::Warning);
  it.upload(10s, 0, 1);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
  it.upload(20s, 30, 0);
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Drained);
}

TEST(RemoteSlowReader, HalfOfEachThresholdKeepsItOpen)
{
  Uploader it;
  it.upload(12s, 0, 1);
  ASSERT_THAT(it.opened(), SizeIs(1));
  it.upload(60s, 1, 0.3);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  it.upload(30s, 1, 0.2);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), SizeIs(1));
}

TEST(RemoteSlowReader, TheVictimIsNamedThoughTheReaderIsHere)
{
  Scene scene;
  SceneSocket& receiver = scene.tcp(scene.process(17, "reader"));
  SceneSocket& sender = scene.tcp(scene.process(19, "writer"));
  Scene::connect(sender, receiver);
  sender.sends(1e6);
  receiver.window(100'000);  // and reads nothing
  scene.run(20s);
  ASSERT_THAT(scene.opened(Kind::RemoteSlowReader), SizeIs(1));
  EXPECT_EQ(scene.opened(Kind::RemoteSlowReader)[0].process.comm, "writer");
  ASSERT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_EQ(scene.opened(Kind::StalledReader)[0].process.comm, "reader");
}

TEST(RemoteSlowReader, AConnectionWhosePeerTakesEverythingKeepsNoHistory)
{
  Uploader it;
  it.socket.arrives(1000).drains(4096, 10).sends(1000);
  it.scene.run(10s);
  const model::Connection* connection = it.scene.model().find(it.socket.sample.cookie);
  ASSERT_NE(connection, nullptr);
  EXPECT_EQ(connection->send_history().capacity(), 0U);
  it.socket.sends(0);
  it.socket.send(100, false);
  it.scene.run(2s);
  EXPECT_THAT(connection->send_history(), SizeIs(2));
  it.socket.sample.snd_una = it.socket.sample.write_seq;
  it.scene.run(20s);
  EXPECT_EQ(connection->send_history().capacity(), 0U);
}

// A sender here and a reader here that never reads.
struct BothHere {
  explicit BothHere(detect::DetectorOptions options = {}) : scene(std::move(options))
  {
    Scene::connect(sender, receiver);
    sender.sends(1e6);
  }
  Scene scene;
  SceneSocket& sender = scene.tcp(scene.process(17, "producer"));
  SceneSocket& receiver = scene.tcp(scene.process(18, "consumer"));

  Duration found_after() const
  {
    const auto found = scene.opened(Kind::RemoteSlowReader);
    return found.empty() ? Duration::max() : found[0].time - WallTime{1'700'000'000s};
  }
};

TEST(RemoteSlowReader, WhereTheReaderIsHereItIsNamedFirst)
{
  BothHere it;
  it.scene.run(40s);
  ASSERT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  const auto victims = it.scene.opened(Kind::RemoteSlowReader);
  ASSERT_THAT(victims, SizeIs(1));
  EXPECT_EQ(victims[0].symptom_of, it.scene.opened(Kind::StalledReader)[0].id);
  EXPECT_LE(it.found_after(), 13s);
}

TEST(RemoteSlowReader, AReaderHereThatIsNotGuiltyAfterAllHoldsItBackForNoLongerThanAStallTakes)
{
  detect::DetectorOptions only;
  only.filter.kinds = {Kind::RemoteSlowReader};
  BothHere it{only};
  it.scene.run(15s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(5s);
  EXPECT_LE(it.found_after(), 18s);
}

TEST(RemoteSlowReader, AConnectionThatNobodyHasAcceptedHasNoReaderToWaitFor)
{
  BothHere it;
  it.receiver.orphan();
  it.scene.run(20s);
  EXPECT_LE(it.found_after(), 8s);
}

// ---- accept-backlog ----

struct Server {
  explicit Server(detect::DetectorOptions options = {}) : scene(std::move(options))
  {
    make_listener(listener);
    scene.run(3s);
  }
  static void make_listener(SceneSocket& socket)
  {
    socket.sample.state = model::TcpState::Listen;
    socket.sample.connected = false;
    socket.sample.opened = {};
    socket.sample.tuple = {endpoint(0, 0, 0, 0, 8080), {}};
    socket.sample.max_ack_backlog = 128;
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "server");
  SceneSocket& listener = scene.tcp(process);

  SceneSocket& client_connects()
  {
    SceneSocket& child = scene.tcp(process);
    child.orphan();
    child.sample.connected = false;
    child.sample.accepted = child.sample.unaccepted = true;
    child.sample.tuple = child.sample.tuple.reversed();
    child.sample.tuple.local = endpoint(10, 0, 0, 1, 8080);
    listener.sample.ack_backlog++;
    return child;
  }
  void accept(SceneSocket& child)
  {
    child.sample.unaccepted = false;
    child.sample.has_file = true;
    child.holders = {process.id};
    listener.sample.ack_backlog--;
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::AcceptBacklog); }
};

TEST(AcceptBacklog, AConnectionThatNobodyAcceptsIsFoundAfterTheHoldTimeAndNotBefore)
{
  Server it;
  it.client_connects().arrive(700);
  it.client_connects();
  it.scene.run(5s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(3s);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "server");
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_FALSE(found[0].start_is_lower_bound);
  EXPECT_EQ(evidence(found[0], "accept_queue"), 2);
  EXPECT_EQ(evidence(found[0], "accept_queue_limit"), 128);
  EXPECT_GE(evidence(found[0], "oldest_seconds"), 5);
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->state, model::TcpState::Listen);
  it.scene.run(30s);  // the unread bytes of a child are not a stalled reader of anybody
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), IsEmpty());
}

TEST(AcceptBacklog, ABusyServersQueueIsNeverEmptyButWhatWaitsIsYoung)
{
  Server it;
  SceneSocket* waiting = &it.client_connects();
  for (int i = 0; i < 60; i++) {
    it.scene.run(1s);
    SceneSocket* next = &it.client_connects();
    it.accept(*waiting);
    waiting = next;
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(AcceptBacklog, AQueueThatEmptiesWithinTheHoldTimeStartsAgain)
{
  Server it;
  for (int i = 0; i < 20; i++) {
    SceneSocket& child = it.client_connects();
    it.scene.run(4s);
    it.accept(child);
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(AcceptBacklog, OverflowAtTwoLooksIsFoundAtOnceAndCritical)
{
  Server it;
  it.listener.sample.ack_backlog = 129;
  it.listener.sample.drops += 3;
  it.scene.run(2s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.listener.sample.drops += 3;
  it.scene.run(2s);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].severity, Severity::Critical);
  EXPECT_EQ(evidence(found[0], "drops_total"), 6);
  EXPECT_THAT(found[0].message, HasSubstr("overflows"));
}

TEST(AcceptBacklog, DropsWhileThereIsRoomAreNoOverflow)
{
  Server it;
  for (int i = 0; i < 30; i++) {
    it.listener.sample.drops += 3;
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(AcceptBacklog, AChildOfAnotherListenerDoesNotCount)
{
  Server it;
  it.listener.sample.ack_backlog = 1;
  SceneSocket& other_port = it.client_connects();
  other_port.sample.tuple.local.port = 9090;
  SceneSocket& other_netns = it.client_connects();
  other_netns.sample.netns++;
  SceneSocket& other_owner = it.client_connects();
  other_owner.sample.owner = it.scene.process(19, "other").id;
  it.scene.run(60s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(AcceptBacklog, AListenerBoundToOneAddressHasTheChildrenOfThatAddress)
{
  Server it;
  it.listener.sample.tuple.local = endpoint(127, 0, 0, 1, 8080);
  SceneSocket& child = it.client_connects();
  it.scene.run(20s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  child.sample.tuple.local = endpoint(127, 0, 0, 1, 8080);
  it.scene.run(20s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(AcceptBacklog, AChildThatIsOlderThanWeAreIsALowerBoundAndHasNoKnownOwner)
{
  Server it;
  SceneSocket& child = it.client_connects();
  child.sample.opened = {};
  child.sample.owner = {};
  child.sample.older_than_observer = true;
  it.scene.run(8s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_TRUE(it.opened()[0].start_is_lower_bound);
  EXPECT_THAT(it.opened()[0].message, HasSubstr("at least"));
}

TEST(AcceptBacklog, AcceptingResolvesIt)
{
  Server it;
  SceneSocket& child = it.client_connects();
  it.scene.run(10s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  it.accept(child);
  it.scene.run(10s);
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Drained);
}

TEST(AcceptBacklog, TenTimesTheHoldTimeIsCritical)
{
  Server it;
  it.client_connects();
  it.scene.run(49s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Warning);
  it.scene.run(5s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
}

}  // namespace
}  // namespace laggard::test
