// SPDX-License-Identifier: MIT
// Why memory grows: what is kept, left behind by messages, stored for clients, or due to connections; steps, many suspects, slow
// leaks. Clause by clause, on virtual time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/scene.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;
using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr double kMB = 1e6;

bool has_evidence(const Finding& finding, std::string_view name)
{
  return std::ranges::any_of(finding.evidence, [&](const detect::Field& field) { return field.name == name; });
}

// A server that its clients send 500 kB/s to, in messages of 1 kB, and that grows with them.
struct Server {
  Server()
  {
    scene.can_attribute = true;
    client.arrives(5e5).drains(16'384, 100);
    client.sample.accepted = true;
    client.sample.connected = false;
    process.anon_bytes = [](double t) { return 20 * kMB + 0.5 * kMB * t; };
    process.grows_with = {{&client, 0.5, 0.5, 500, 1}};
  }
  void connects() { client.sample.accepted = false, client.sample.connected = true; }
  void answers(double part) { process.grows_with[0].answered = part; }
  Finding only(Kind kind) const
  {
    const auto found = scene.opened(kind);
    EXPECT_THAT(found, SizeIs(1));
    EXPECT_THAT(scene.lines(Phase::Opened), SizeIs(1));
    return found.empty() ? Finding{} : found[0];
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "server");
  SceneSocket& client = scene.tcp(process);
};

// ---- stores ----

TEST(Store, WhoAnswersItsClientsMayKeepWhatTheySend)
{
  Server it;
  it.scene.run(10min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  EXPECT_GE(it.scene.attributions, 1);
}

TEST(Store, MostTurnsHaveToBeAnswered)
{
  for (const double part : {0.0, 0.05, 0.3}) {  // nothing, pings, an acknowledgment now and then
    Server it;
    it.answers(part);
    it.scene.run(60s);
    it.only(Kind::UserSpaceBuffering);
  }
  Server it;
  it.answers(0.6);
  it.scene.run(60s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Store, WhoConnectedIsNoStoreWhateverItSends)
{
  Server it;
  it.connects();
  it.scene.run(60s);
  it.only(Kind::UserSpaceBuffering);
}

TEST(Store, AServerOlderThanTheObserverIsKnownByItsListener)
{
  Server it;
  it.client.sample.accepted = false;
  SceneSocket& listener = it.scene.tcp(it.process);
  listener.sample.state = model::TcpState::Listen;
  listener.sample.connected = false;
  listener.sample.tuple = {endpoint(0, 0, 0, 0, 6379), {}};
  it.client.sample.connected = false;
  it.client.sample.tuple.local.port = 6379;
  it.scene.run(60s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Store, MostOfTheGrowthDecides)
{
  Server it;
  SceneSocket& upstream = it.scene.tcp(it.process).arrives(5e5).drains(16'384, 100);
  it.process.grows_with = {{&it.client, 0.2, 0.1, 500, 1}, {&upstream, 0.4, 0.3, 500, 0}};
  it.scene.run(60s);
  const Finding found = it.only(Kind::UserSpaceBuffering);
  EXPECT_EQ(found.examples[0], upstream.sample.tuple);
}

TEST(Store, ThatRunsOutOfRoomIsHeapGrowth)
{
  Server it;
  it.scene.cgroup_limit_bytes = 2'000'000'000;
  it.scene.cgroup_headroom_bytes = 1'700'000'000;  // 57 min
  it.scene.run(50s);
  EXPECT_THAT(it.scene.findings(), IsEmpty()) << "no forecast reaches that far";
  it.scene.run(30s);
  const Finding found = it.only(Kind::HeapGrowth);
  EXPECT_THAT(found.message, HasSubstr("keeps what its clients send"));
  EXPECT_THAT(found.examples, Contains(it.client.sample.tuple));
}

TEST(Store, TheHostsEndIsNearEnoughBelowAnHour)
{
  Server it;
  it.scene.host_available_bytes = 500'000'000;
  it.scene.run(3min);
  EXPECT_THAT(it.only(Kind::HeapGrowth).message, HasSubstr("keeps what its clients send"));
  Server far;
  far.scene.host_available_bytes = 4'000'000'000;  // 2 h 13 min
  far.scene.run(10min);
  EXPECT_THAT(far.scene.findings(), IsEmpty());
}

TEST(Store, ItsWorkersMayKeepWhatItReads)
{
  Server it;
  it.process.grows_with = {{&it.client, 0, 0.1, 500, 1}};
  it.scene.run(5min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.process.anon_bytes = [](double t) { return (20 + 150 + 3 * (t - 300)) * kMB; };  // six times what it reads
  it.scene.run(60s);
  it.only(Kind::HeapGrowth);
}

TEST(Store, SmallItemsCostMoreThanTheyAre)
{
  Server it;
  it.client.arrives(5e4);
  it.process.anon_bytes = [](double t) { return 20 * kMB + 0.3 * kMB * t; };  // six times what it reads
  it.process.grows_with = {{&it.client, 0, 1, 1500, 1}};                      // 33 bytes a message, 200 kept
  it.scene.run(60s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// Rooms of 30 kB for guests that come and go: on a busy machine the collector is late, and touches half of the pages.
TEST(Store, WhoseCollectorIsLateIsNoLeakYet)
{
  Server it;
  it.client.arrives(2e3);
  it.process.anon_bytes = [](double t) { return 20 * kMB + 0.5 * kMB * std::fmod(t, 100); };
  it.process.mapped_bytes = it.process.anon_bytes;
  it.process.grows_with = {{&it.client, 0, 0.46, 20, 1}};
  it.scene.run(100s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// ---- more than was read ----

TEST(PerMessage, WhatIsMoreThanWasReadCannotBeKept)
{
  for (const bool udp : {false, true}) {
    Scene scene;
    scene.can_attribute = true;
    SceneProcess& process = scene.process(17, "leaker");
    SceneSocket& socket = udp ? scene.udp(process) : scene.tcp(process);
    socket.arrives(1000).drains(1000, 10);
    process.anon_bytes = [](double t) { return 20 * kMB + 0.82 * kMB * t; };
    process.grows_with = {{&socket, 0, 1, 10, 0}};
    scene.run(60s);
    ASSERT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1)) << udp;
    const Finding found = scene.opened(Kind::HeapGrowth)[0];
    EXPECT_THAT(found.message, HasSubstr("each message leaves 80.1 KiB behind"));
    EXPECT_THAT(found.examples, Contains(socket.sample.tuple));
    EXPECT_NEAR(evidence(found, "message_growth_bytes"), 82'000, 1000);
    EXPECT_NEAR(evidence(found, "messages_per_second"), 10, 0.1);
    EXPECT_THAT(scene.opened(Kind::UserSpaceBuffering), IsEmpty());
  }
}

TEST(PerMessage, FourTimesIsTheLimit)
{
  for (const double ratio : {3.5, 4.5}) {
    Server it;
    it.answers(0);
    it.process.anon_bytes = [=](double t) { return 20 * kMB + ratio * 0.5 * kMB * t; };
    it.scene.run(60s);
    it.only(ratio < 4 ? Kind::UserSpaceBuffering : Kind::HeapGrowth);
  }
}

TEST(PerMessage, ALeakOfAServerThatAnswersIsFoundAsItTakesNewMemory)
{
  Server it;
  it.process.anon_bytes = [](double t) { return 20 * kMB + 5 * kMB * t; };
  it.scene.run(60s);
  EXPECT_THAT(it.only(Kind::HeapGrowth).message, HasSubstr("each message leaves 9.8 KiB behind"));
}

TEST(PerMessage, ARuntimeThatFillsTheHeapItHadFromTheStartIsNone)
{
  Server it;
  it.process.anon_bytes = [](double t) { return 20 * kMB + std::min(5 * kMB * t, 400 * kMB); };
  it.process.mapped_bytes = [](double) { return 500 * kMB; };
  it.scene.run(10min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(PerMessage, NorIfItsCollectorDoes)
{
  Server it;
  it.process.anon_bytes = [](double t) { return 20 * kMB + std::min(5 * kMB * t, 400 * kMB); };
  it.process.mapped_bytes = [](double) { return 500 * kMB; };
  it.process.grows_with = {{&it.client, 0, 0.3, 500, 1}};
  it.scene.run(10min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  Server silent = {};
  silent.answers(0);
  silent.process.mapped_bytes = [](double) { return 500 * kMB; };
  silent.process.grows_with[0].user = silent.process.grows_with[0].kernel = 0.1;
  silent.scene.run(60s);
  silent.only(Kind::HeapGrowth);
}

TEST(PerMessage, NorIfItWasStartedNotLongAgo)
{
  Server it;
  it.process.anon_bytes = [](double t) { return 20 * kMB + std::min(0.5 * kMB * t, 60 * kMB); };
  it.process.mapped_bytes = [](double t) { return t < 2 ? 25 * kMB : 500 * kMB; };
  it.process.grows_with = {{&it.client, 0, 0.2, 10, 1}};
  it.client.arrives(1e3);
  it.scene.run(10min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(PerMessage, ARuntimeThatFillsItsYoungGenerationIsNone)
{
  for (const double rate : {0.4, 1.0}) {
    Server it;
    it.client.arrives(5e3);
    it.process.anon_bytes = [=](double t) { return 20 * kMB + std::min(rate * kMB * t, 48 * kMB); };
    it.scene.run(10min);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << rate;
  }
}

TEST(PerMessage, ASlowLeakOfAServerThatAnswersIsFoundInFiveMinutes)
{
  Server it;
  it.client.arrives(1e3);
  it.process.anon_bytes = [](double t) { return 20 * kMB + 0.1 * kMB * t; };
  it.process.grows_with = {{&it.client, 0, 1, 10, 1}};
  it.scene.run(4min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(2min);
  EXPECT_THAT(it.only(Kind::HeapGrowth).message, HasSubstr("each message leaves"));
}

TEST(PerMessage, WhatItWasOpenedAsItStays)
{
  Server it;
  it.answers(0);
  it.process.anon_bytes = [](double t) { return 20 * kMB + (t < 120 ? 1.8 * t : 216 + 2.4 * (t - 120)) * kMB; };
  it.scene.run(5min);
  it.only(Kind::UserSpaceBuffering);
}

// ---- memory in steps ----

TEST(Steps, AnAttributionGoesOnUntilTheNextStep)
{
  for (const double begins : {0.0, 3.0, 6.0, 9.0, 12.0}) {
    Server it;
    it.connects();
    it.client.arrives(1.2e6);
    it.process.anon_bytes = [=](double t) { return 20 * kMB + 16 * kMB * std::floor((t + begins) / 13); };
    it.scene.run(2min);
    it.only(Kind::UserSpaceBuffering);
  }
}

TEST(Steps, RareOnesAreFoundOverThreeTimesTheWindow)
{
  for (const double period : {17.0, 25.0, 35.0}) {
    Server it;
    it.connects();
    it.process.anon_bytes = [=](double t) { return (20 + 1.2 * period * std::floor(t / period)) * kMB; };
    it.scene.run(4min);
    it.only(Kind::UserSpaceBuffering);
  }
}

TEST(Steps, ThatStopAreNone)
{
  for (const int steps : {1, 2})
    for (const double period : {4.0, 9.0, 13.0}) {
      Server it;
      it.connects();
      it.process.anon_bytes = [=](double t) { return 20 * kMB + 16 * kMB * std::min(std::floor(t / period), 1.0 * steps); };
      it.scene.run(10min);
      EXPECT_THAT(it.scene.findings(), IsEmpty()) << steps << " every " << period << " s";
    }
}

TEST(Steps, NoOneWaitsForLongerThanAWindow)
{
  Server it;
  it.connects();
  it.process.anon_bytes = [](double t) { return 20 * kMB + std::min(t, 31.0) * kMB; };
  it.scene.run(2min);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  EXPECT_LE(it.scene.attributions, 2);
}

// ---- saw-teeth ----

TEST(HighWater, AChunkThatIsFilledAndFlushedIsSaidOnceAtMost)
{
  for (const double period : {20.0, 45.0, 100.0, 280.0})
    for (const double rate : {0.6, 5.0}) {
      Server it;
      it.answers(0);
      it.client.arrives(rate * kMB);
      it.process.anon_bytes = [=](double t) { return (20 + rate * std::fmod(t, period)) * kMB; };
      it.scene.run(60min);
      EXPECT_LE(it.scene.lines(Phase::Opened).size(), 1U) << period << " s at " << rate << " MB/s";
      for (const Finding& resolved : it.scene.lines(Phase::Resolved))
        EXPECT_EQ(resolved.resolution, Resolution::Subsided);
      EXPECT_EQ(it.scene.detector().counts().open, 0U);
    }
}

TEST(HighWater, ALeakUnderTeethIsStillFound)
{
  for (const double period : {5.0, 45.0}) {
    Server it;
    it.answers(0);
    it.process.anon_bytes = [=](double t) { return (20 + 0.5 * t + 15 * std::fmod(t, period) / period) * kMB; };
    it.scene.run(8min);
    EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), testing::Not(IsEmpty())) << period;
  }
}

// ---- slow leaks ----

// The first minute in which it is found; 0: never.
int minute_found(std::function<double(double)> bytes, int minutes)
{
  Scene scene;
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "slow");
  scene.tcp(process);
  process.anon_bytes = std::move(bytes);
  for (int minute = 1; minute <= minutes; minute++) {
    scene.run(60s);
    if (!scene.opened(Kind::HeapGrowth).empty())
      return minute;
  }
  EXPECT_THAT(scene.findings(), IsEmpty());
  return 0;
}

TEST(SlowLeak, IsFoundOverALongerWindow)
{
  const auto leak = [](double mb_a_minute) { return [=](double t) { return 50 * kMB + mb_a_minute * kMB * t / 60; }; };
  EXPECT_EQ(minute_found(leak(14), 10), 2);
  EXPECT_EQ(minute_found(leak(2), 10), 6);
  const int minute = minute_found(leak(1), 40);
  EXPECT_GT(minute, 20);
  EXPECT_LT(minute, 30);
}

TEST(SlowLeak, OfOneMegabyteAtATimeToo)
{
  const int minute = minute_found([](double t) { return 50 * kMB + kMB * std::floor(t / 60); }, 40);
  EXPECT_GT(minute, 0);
  EXPECT_LT(minute, 30);
}

TEST(SlowLeak, TellsWhenItEnds)
{
  Scene scene;
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "slow");
  scene.tcp(process);
  scene.host_available_bytes = 24'000'000'000;
  process.anon_bytes = [](double t) { return 50 * kMB + 2 * kMB * t / 60; };
  scene.run(7min);
  ASSERT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1));
  const Finding found = scene.opened(Kind::HeapGrowth)[0];
  EXPECT_THAT(found.message, HasSubstr("memory grows by 1.9 MiB a minute"));
  EXPECT_THAT(found.details, Contains(HasSubstr("the end of the host's memory is reached in 8 d")));
  ASSERT_FALSE(found.thresholds.empty());
  EXPECT_EQ(std::get<double>(found.thresholds.back().value), 300);
}

TEST(SlowLeak, CachesThatLevelOffAndTheTimesOfDayAreNone)
{
  EXPECT_EQ(minute_found([](double t) { return (50 + 60 * (1 - std::exp(-t / 300))) * kMB; }, 120), 0);
  EXPECT_EQ(minute_found([](double t) { return (50 + std::min(t / 60, 12.0)) * kMB; }, 120), 0);
  // The second day: the first one's was news.
  Scene scene;
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "office hours");
  scene.tcp(process);
  process.anon_bytes = [](double t) { return (200 - 100 * std::cos(t / 86400 * 2 * 3.14159265)) * kMB; };
  scene.run(24h);
  const auto first_day = scene.lines(Phase::Opened).size();
  EXPECT_LE(first_day, 1U);
  scene.run(24h);
  EXPECT_EQ(scene.lines(Phase::Opened).size(), first_day);
}

TEST(SlowLeak, ALargeProcessMayDrift)
{
  EXPECT_EQ(minute_found([](double t) { return (4000 + 2 * t / 60) * kMB; }, 60), 0);
}

TEST(SlowLeak, AFastOneIsOverSoonAfterItStopped)
{
  Server it;
  it.connects();
  it.process.anon_bytes = [](double t) { return (20 + std::min(t, 600.0) * 0.5) * kMB; };
  it.scene.run(600s);
  EXPECT_EQ(it.scene.detector().counts().open, 1U);
  it.scene.run(150s);
  EXPECT_EQ(it.scene.detector().counts().open, 0U);
  it.scene.run(1h);
  EXPECT_THAT(it.scene.lines(Phase::Opened), SizeIs(1));
}

TEST(SlowLeak, CostsNoMoreMemoryThanBefore)
{
  model::Process idle, grows;
  const model::ModelOptions options;
  for (int i = 0; i < 7200; i++) {
    idle.observe({.id = {17, 1}, .comm = "x", .anon_bytes = 5'000'000}, MonoTime{1000s + i * 1s}, 0, options);
    grows.observe({.id = {18, 1}, .comm = "x", .anon_bytes = 5'000'000U + 4096U * static_cast<std::uint64_t>(i)}, MonoTime{1000s + i * 1s}, 0, options);
  }
  EXPECT_LE(idle.history().size(), 2U);
  EXPECT_LE(grows.history().size() * sizeof(model::Process::Look), 4200U);  // 30 s in two shapes took 2.7 kB, also of one that does nothing
  EXPECT_GE(grows.history().back().time - grows.history().front().time, 25min);
}

// ---- many suspects ----

TEST(Suspects, TenAtOnceAreToldWithinAMinute)
{
  Scene scene;
  scene.can_attribute = true;
  for (std::uint32_t i = 0; i < 10; i++) {
    SceneProcess& process = scene.process(17 + i, "grower");
    scene.tcp(process);
    process.anon_bytes = [i](double t) { return (i == 9 ? 0.3 : 2.0 + i) * kMB * t; };
  }
  scene.run(60s);
  EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(10));
}

TEST(Suspects, WhoWaitsLongestComesFirst)
{
  Scene scene;
  scene.can_attribute = true;
  scene.attributes_at_once = 1;
  for (std::uint32_t i = 0; i < 10; i++) {
    SceneProcess& process = scene.process(17 + i, i == 0 ? "small" : "large");
    scene.tcp(process);
    process.anon_bytes = [i](double t) { return (i == 0 ? 0.3 : 5.0) * kMB * t; };
  }
  scene.run(60s);
  const auto small = [](const Finding& finding) { return finding.process.comm == "small"; };
  EXPECT_FALSE(std::ranges::none_of(scene.opened(Kind::HeapGrowth), small));
  scene.run(40s);
  EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(10));
}

// ---- who uses sockets ----

TEST(SocketUsers, WhoOnlyFailsToBindIsOne)
{
  for (const bool uses : {false, true}) {
    Scene scene;
    scene.can_attribute = true;
    SceneProcess& process = scene.process(17, "binder");
    process.uses_sockets = uses;
    process.anon_bytes = [](double t) { return 2 * kMB * t; };
    scene.run(60s);
    EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(uses ? 1 : 0));
  }
}

TEST(SocketUsers, StayOneForLife)
{
  Scene scene;
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "former");
  SceneSocket& socket = scene.tcp(process);
  scene.run(20s);
  scene.destroy(socket);
  process.anon_bytes = [](double t) { return 2 * kMB * std::max(t - 30, 0.0); };
  scene.run(120s);
  EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1));
}

// ---- memory per connection ----

// A client that opens two connections a second to a server on this host, uses each once and keeps it; both pay for each.
struct LeakingPair {
  explicit LeakingPair(double client_kib = 22, double server_kib = 17)
  {
    scene.can_attribute = true;
    scene.always_walks_holders = true;
    client.anon_bytes = [this, client_kib](double) { return 30e6 + client_kib * 1024 * static_cast<double>(opened); };
    server.anon_bytes = [this, server_kib](double) { return 30e6 + server_kib * 1024 * static_cast<double>(opened); };
  }
  void open(int seconds, int per_second)
  {
    for (int i = 0; i < seconds; i++) {
      for (int one = 0; one < per_second; one++, opened++) {
        SceneSocket& here = scene.tcp(client);
        SceneSocket& there = scene.tcp(server);
        Scene::connect(here, there);
        here.send(100);
        there.arrive(100);
        there.read(100);
        there.send(700);
        here.arrive(700);
        here.read(700);
        client.grows_with = {{&here, 0, 1, 20, 0}};
        server.grows_with = {{&there, 0, 1, 20, 1}};
      }
      scene.run(1s);
    }
  }
  Finding only(Kind kind, std::string_view comm) const
  {
    std::vector<Finding> found = scene.opened(kind);
    std::erase_if(found, [&](const Finding& finding) { return finding.process.comm != comm; });
    EXPECT_THAT(found, SizeIs(1)) << comm;
    return found.empty() ? Finding{} : found[0];
  }
  Scene scene;
  SceneProcess& client = scene.process(17, "client");
  SceneProcess& server = scene.process(18, "server");
  int opened = 0;
};

TEST(PerConnection, MemoryOfBothEndsIsASymptomOfTheLeak)
{
  LeakingPair it;
  it.open(100, 20);
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), IsEmpty());
  const Finding leak = it.only(Kind::ConnectionLeak, "client");
  const Finding client = it.only(Kind::HeapGrowth, "client");
  const Finding server = it.only(Kind::HeapGrowth, "server");
  EXPECT_THAT(client.message, HasSubstr("connections that it has left open"));
  EXPECT_THAT(server.message, HasSubstr("connections that their clients left open"));
  EXPECT_EQ(client.symptom_of, leak.id);
  EXPECT_EQ(server.symptom_of, leak.id);
  EXPECT_TRUE(has_evidence(server, "left_open"));
  EXPECT_THAT(server.details, Contains(HasSubstr("17 KiB each")));
}

TEST(PerConnection, WhereNobodyLeaksTheNumberIsTheClients)
{
  LeakingPair it;
  it.scene.looks_at_pools = false;  // no leak is known of
  it.open(100, 20);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(PerConnection, AConnectionDoesNotCostThatMuch)
{
  LeakingPair it{300, 17};
  it.scene.looks_at_pools = false;
  it.open(60, 2);
  EXPECT_EQ(it.scene.lines(Phase::Opened).size(), 1U);
  EXPECT_EQ(it.scene.lines(Phase::Opened)[0].process.comm, "client");
}

TEST(Incidents, OperationsThatNeverCompleteKeepTheirMemory)
{
  Scene scene;
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "msquic");
  scene.udp(process);
  process.anon_bytes = [](double t) { return 30e6 + kMB * t; };
  scene.alter = [&](model::Tick& tick) {
    model::PairSample& pair = tick.pairs.emplace_back();
    pair.process = process.id;
    pair.name = "stream";
    pair.time = tick.time;
    pair.begun = 1000, pair.ended = 800, pair.outstanding = 200;
    pair.oldest_begin = tick.time - 400s;
    pair.last_end = tick.time;
    pair.overtaken.fill(10);
  };
  scene.run(60s);
  ASSERT_THAT(scene.opened(Kind::UnpairedOperations), SizeIs(1));
  ASSERT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1));
  EXPECT_EQ(scene.opened(Kind::HeapGrowth)[0].symptom_of, scene.opened(Kind::UnpairedOperations)[0].id);
}

}  // namespace
}  // namespace laggard::test
