// SPDX-License-Identifier: MIT
// connection-leak, clause by clause, and the pools that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

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

struct Client {
  explicit Client(detect::DetectorOptions options = {}) : scene(std::move(options)) {}
  Scene scene;
  SceneProcess& process = scene.process(17, "client");
  std::deque<SceneSocket*> pool;

  static void use(SceneSocket& socket)
  {
    socket.send(100);
    socket.arrive(700);
    socket.read(700);
  }
  SceneSocket& open()
  {
    pool.push_back(&scene.tcp(process));
    use(*pool.back());
    return *pool.back();
  }
  void close_oldest()
  {
    scene.destroy(*pool.front());
    pool.pop_front();
  }
  void leak(int how_many, Duration every = 1s)
  {
    for (int i = 0; i < how_many; i++) {
      open();
      scene.run(every);
    }
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::ConnectionLeak); }
};

TEST(ConnectionLeak, ConnectionsThatAreUsedOnceAndKeptAreFound)
{
  Client it;
  it.leak(40);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.leak(40);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "client");
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_TRUE(found[0].is_group);
  EXPECT_GE(found[0].count, 10U);
  EXPECT_THAT(found[0].examples, SizeIs(5));
  EXPECT_EQ(found[0].examples[0].peer.port, 80);
  ASSERT_TRUE(found[0].socket);
  EXPECT_TRUE(found[0].socket->connected);
  EXPECT_NEAR(evidence(found[0], "opened_per_second"), 1, 0.2);
  EXPECT_GE(evidence(found[0], "idle_seconds"), 30);
  EXPECT_GE(evidence(found[0], "oldest_seconds"), evidence(found[0], "idle_seconds"));
  ASSERT_THAT(found[0].thresholds, SizeIs(2));
  EXPECT_EQ(found[0].thresholds[0].name, "leak_count");
  EXPECT_EQ(std::get<std::uint64_t>(found[0].thresholds[0].value), 10U);
  EXPECT_EQ(std::get<double>(found[0].thresholds[1].value), 30);
}

TEST(ConnectionLeak, ASlowLeakIsFoundToo)
{
  Client it;
  it.leak(40, 5s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(ConnectionLeak, LooksThatTheCpuBudgetMakesRareFindItLater)
{
  for (const int seconds_between : {3, 7, 8, 20, 45}) {
    Client it;
    it.scene.sweep_every_ticks = seconds_between;
    it.leak(300);
    EXPECT_THAT(it.opened(), SizeIs(1)) << seconds_between;
  }
}

TEST(ConnectionLeak, CountAndIdleTimeAreOptions)
{
  detect::DetectorOptions options;
  options.thresholds.leak_count = 4;
  options.thresholds.idle = 6s;
  Client it{options};
  it.leak(20);
  EXPECT_THAT(it.opened(), SizeIs(1));
  options.thresholds.leak_count = 100;
  Client more{options};
  more.leak(60);
  EXPECT_THAT(more.opened(), IsEmpty());
}

TEST(ConnectionLeak, TenTimesTheCountIsCritical)
{
  Client it;
  it.leak(180);
  EXPECT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
}

TEST(ConnectionLeak, APoolThatIsIdleForMinutesIsSilent)
{
  Client it;
  for (int i = 0; i < 100; i++)
    it.open();
  it.scene.run(300s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, APoolThatWasFilledInOneBurstAndGrowsOnceIsSilent)
{
  Client it;
  it.scene.run(60s);
  for (int i = 0; i < 50; i++)
    it.open();
  it.scene.run(90s);
  for (int i = 0; i < 20; i++)
    it.open();
  it.scene.run(90s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, APoolThatGrewAndOpensNoMoreIsSilent)
{
  Client it;
  it.leak(20, 1s);  // over before the first of them has been idle for long
  it.scene.run(200s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, ChurnIsSilent)
{
  Client it;
  for (int i = 0; i < 200; i++) {
    for (int j = 0; j < 5; j++)
      it.open();
    it.scene.run(1s);
    while (!it.pool.empty())
      it.close_oldest();
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, ASteadyNumberThatIsClosedInTheEndIsSilent)
{
  Client it;
  // As it stands when we come: one a second, each kept for 60 s.
  for (int i = 0; i < 60; i++) {
    model::SocketSample& sample = it.open().sample;
    sample.opened = {};
    sample.older_than_observer = true;
    sample.connected = false;
    sample.last_arrival = it.pool.back()->last_sent = it.scene.now() - 60s + i * 1s;
  }
  for (int i = 0; i < 200; i++) {
    it.close_oldest();
    it.leak(1);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, APoolThatReusesTheLatestIsSilent)
{
  Client it;
  for (int i = 0; i < 50; i++)
    it.open();
  for (int i = 0; i < 200; i++) {
    Client::use(*it.pool.back());
    Client::use(*it.pool[it.pool.size() - 2]);
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, ConnectionsThatTalkNowAndThenAreUsed)
{
  Client it;
  for (int i = 0; i < 200; i++) {
    it.leak(1);
    for (std::size_t j = 0; j < it.pool.size(); j++)
      if (static_cast<int>(j) % 20 == i % 20)
        Client::use(*it.pool[j]);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, OnlyUsedConnectionsCount)
{
  const auto silent = [](const std::function<void(SceneSocket&)>& change) {
    Client it;
    for (int i = 0; i < 100; i++) {
      change(it.open());
      it.scene.run(1s);
    }
    return it.scene.opened(Kind::ConnectionLeak).empty();
  };
  EXPECT_FALSE(silent([](SceneSocket&) {}));
  EXPECT_TRUE(silent([](SceneSocket& socket) { socket.sample.bytes_received = 0; }));
  EXPECT_TRUE(silent([](SceneSocket& socket) { socket.sample.bytes_acked = 0; }));
  EXPECT_TRUE(silent([](SceneSocket& socket) { socket.arrive(17); }));     // a stalled reader
  EXPECT_TRUE(silent([](SceneSocket& socket) { socket.peer_closes(); }));  // close-wait
  EXPECT_TRUE(silent([](SceneSocket& socket) { socket.orphan(); }));
}

TEST(ConnectionLeak, AnOlderConnectionOnAPortThatIsListenedOnIsAServers)
{
  Client it;
  SceneSocket& listener = it.scene.tcp(it.process);
  listener.sample.state = model::TcpState::Listen;
  listener.sample.connected = false;
  listener.sample.tuple = {endpoint(0, 0, 0, 0, 8080), {}};
  for (int i = 0; i < 100; i++) {
    SceneSocket& socket = it.open();
    socket.sample.connected = false;
    socket.sample.older_than_observer = true;
    socket.sample.tuple.local.port = 8080;
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.opened()[0].message, HasSubstr("accepted connections on port 8080"));
  ASSERT_TRUE(it.opened()[0].socket);
  EXPECT_TRUE(it.opened()[0].socket->accepted);
  EXPECT_FALSE(it.opened()[0].socket->connected);
}

TEST(ConnectionLeak, EachNamespaceIsASetOfItsOwnAndAllEndpointsOfARoleAreOne)
{
  Client it;
  for (int i = 0; i < 100; i++) {
    SceneSocket& socket = it.open();
    socket.sample.tuple.peer.port = static_cast<std::uint16_t>(1000 + i % 50);
    socket.sample.netns += static_cast<std::uint32_t>(i % 2);
    it.scene.run(1s);
  }
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_NE(found[0].socket->netns, found[1].socket->netns);
  for (const Finding& one : found) {
    EXPECT_THAT(one.message, HasSubstr("endpoints used once"));
    EXPECT_LE(evidence(one, "endpoints"), 25);
    EXPECT_GE(evidence(one, "endpoints"), 10);
  }
}

TEST(ConnectionLeak, LooksThatDoNotReachBackProveNothing)
{
  Client it;
  it.scene.looks_at_pools = false;
  it.leak(100);
  it.scene.looks_at_pools = true;
  it.leak(24);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.leak(20);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(ConnectionLeak, WithoutASinglePooledLookItIsSilent)
{
  Client it;
  it.scene.looks_at_pools = false;
  it.leak(200);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(ConnectionLeak, TheOneWhoHoldsThemNowIsNamed)
{
  Client it;
  SceneProcess& child = it.scene.process(19, "child");
  for (int i = 0; i < 80; i++) {
    it.open().holders = {child.id};
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].process.comm, "child");
}

TEST(ConnectionLeak, AllHoldersAreNamed)
{
  Client it;
  SceneProcess& child = it.scene.process(19, "child");
  for (int i = 0; i < 80; i++) {
    it.open().holders = {child.id, it.process.id};
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].process.comm, "client");
  EXPECT_THAT(it.opened()[0].holders, testing::ElementsAre(17U, 19U));
}

TEST(ConnectionLeak, HalfOfTheCountKeepsItOpenAndClosingThemResolvesIt)
{
  Client it;
  it.leak(80);
  ASSERT_THAT(it.opened(), SizeIs(1));
  it.scene.run(60s);  // no new ones
  while (it.pool.size() > 5)
    it.close_oldest();
  it.scene.run(60s);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  it.close_oldest();
  it.scene.run(20s);
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Closed);
}

TEST(ConnectionLeak, UsingThemAgainResolvesIt)
{
  Client it;
  it.leak(80);
  ASSERT_THAT(it.opened(), SizeIs(1));
  for (int i = 0; i < 5; i++) {
    for (SceneSocket* socket : it.pool)
      Client::use(*socket);
    it.scene.run(10s);
  }
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Subsided);
}

TEST(ConnectionLeak, FiltersApplyToIdleConnections)
{
  for (const bool matches : {true, false}) {
    detect::DetectorOptions options;
    options.filter.ports = {static_cast<std::uint16_t>(matches ? 80 : 81)};
    Client it{options};
    it.leak(80);
    EXPECT_EQ(it.opened().size(), matches ? 1U : 0U);
  }
}

TEST(Pools, TheTableIsBoundedAndRefusalsAreCounted)
{
  model::Model model{{.max_connections = 3}};
  model::Tick tick;
  tick.time = MonoTime{1000s};
  tick.looked_at_pools = true;
  for (std::uint64_t cookie = 1; cookie <= 14; cookie++)
    tick.pooled.push_back({cookie, {17, 1}, {}, 0, true, {}, MonoTime{900s}});
  model.apply(tick);
  EXPECT_THAT(model.pools().members(), SizeIs(12));
  EXPECT_EQ(model.evicted(), 2U);
}

TEST(Pools, AConnectionCostsLessThan200Bytes)
{
  // Node: next pointer and value; allocator header; bucket.
  EXPECT_LE(sizeof(std::pair<const std::uint64_t, model::Pooled>) + 8 + 8 + 8, 200U);
}

}  // namespace
}  // namespace laggard::test
