// SPDX-License-Identifier: MIT
// Many at once: findings of many alike, what is still, and what there is no room for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using testing::HasSubstr;
using testing::SizeIs;

std::vector<Finding> open_of(const Scene& scene, Kind kind)
{
  std::map<std::uint64_t, Finding> open;
  for (const Finding& line : scene.findings())
    if (line.kind == kind) {
      open[line.id] = line;
      if (line.phase == Phase::Resolved)
        open.erase(line.id);
    }
  std::vector<Finding> found;
  for (const auto& [id, finding] : open)
    found.push_back(finding);
  return found;
}

struct Host {
  Scene scene;
  std::uint16_t next_port = 5000;

  SceneProcess& worker(std::uint32_t tgid, std::uint64_t executable = 71, const char* comm = "worker", std::uint64_t cgroup = 5)
  {
    SceneProcess& process = scene.process(tgid, comm);
    process.exe_inode = executable;
    process.cgroup_id = cgroup;
    return process;
  }
  // A connection of its own endpoint that nobody reads.
  SceneSocket& stuck(SceneProcess& process)
  {
    SceneSocket& socket = scene.tcp(process);
    socket.sample.tuple.peer.port = next_port++;
    socket.arrive(4099);
    return socket;
  }
};

TEST(Collapse, EndpointsOfOneProcessBeyondEightAreOneFinding)
{
  for (const int endpoints : {8, 9, 300}) {
    Host host;
    SceneProcess& crawler = host.worker(17);
    for (int i = 0; i < endpoints; i++)
      host.stuck(crawler);
    host.scene.run(30s);
    const auto open = open_of(host.scene, Kind::StalledReader);
    if (endpoints == 8) {
      EXPECT_THAT(open, SizeIs(8));
      continue;
    }
    ASSERT_THAT(open, SizeIs(1)) << endpoints;
    EXPECT_EQ(open[0].count, static_cast<std::uint64_t>(endpoints));
    EXPECT_EQ(open[0].endpoints, static_cast<std::uint64_t>(endpoints));
    EXPECT_EQ(open[0].processes, 1U);
    EXPECT_EQ(open[0].examples.size(), detect::kMaxExamples);
    EXPECT_THAT(open[0].message, HasSubstr(std::to_string(endpoints) + " endpoints"));
    EXPECT_THAT(host.scene.opened(Kind::StalledReader), SizeIs(1));
  }
}

TEST(Collapse, ProcessesOfOneProgramInOneCgroupAreOneFindingAndOthersAreNot)
{
  struct Case {
    const char* what;
    std::function<void(SceneProcess&, int)> change;
    std::size_t findings;
  };
  for (const Case& one : {Case{"alike", [](SceneProcess&, int) {}, 1},
                          Case{"each of its own program", [](SceneProcess& p, int i) { p.exe_inode = 100U + static_cast<unsigned>(i); }, 20},
                          Case{"each with a name of its own", [](SceneProcess& p, int i) { p.comm += std::to_string(i); }, 20},
                          Case{"each in a cgroup of its own", [](SceneProcess& p, int i) { p.cgroup_id = 100U + static_cast<unsigned>(i); }, 20},
                          Case{"of an unknown program", [](SceneProcess& p, int) { p.exe_inode = 0; }, 20}}) {
    Host host;
    for (int i = 0; i < 20; i++) {
      SceneProcess& process = host.worker(100 + static_cast<std::uint32_t>(i));
      one.change(process, i);
      host.stuck(process);
    }
    host.scene.run(30s);
    const auto open = open_of(host.scene, Kind::StalledReader);
    EXPECT_THAT(open, SizeIs(one.findings)) << one.what;
    if (open.size() == 1) {
      EXPECT_EQ(open[0].processes, 20U);
      EXPECT_EQ(open[0].example_processes.size(), detect::kMaxExamples);
      EXPECT_THAT(open[0].message, HasSubstr("20 processes alike"));
    }
  }
}

TEST(Collapse, ProcessesThatGrowAlikeAreOneFinding)
{
  Host host;
  for (std::uint32_t i = 0; i < 20; i++) {
    SceneProcess& process = host.worker(100 + i);
    process.uses_sockets = true;
    process.anon_bytes = [](double second) { return 10e6 + 1e6 * second; };
  }
  host.scene.can_attribute = true;
  host.scene.run(90s);
  const auto open = open_of(host.scene, Kind::HeapGrowth);
  ASSERT_THAT(open, SizeIs(1));
  EXPECT_EQ(open[0].processes, 20U);
}

TEST(Collapse, WhatWasSaidOneByOneGoesOnInTheWhole)
{
  Host host;
  SceneProcess& crawler = host.worker(17);
  for (int i = 0; i < 3; i++)
    host.stuck(crawler);
  host.scene.run(15s);
  EXPECT_THAT(open_of(host.scene, Kind::StalledReader), SizeIs(3));
  for (int i = 0; i < 20; i++)
    host.stuck(crawler);
  host.scene.run(15s);
  const auto open = open_of(host.scene, Kind::StalledReader);
  ASSERT_THAT(open, SizeIs(1));
  EXPECT_EQ(open[0].count, 23U);
  const auto resolved = host.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(3));
  for (const Finding& finding : resolved) {
    EXPECT_EQ(finding.resolution, Resolution::Regrouped);
    EXPECT_EQ(finding.symptom_of, open[0].id);
  }
}

TEST(Collapse, OneProcessIsNoProgram)
{
  Host host;
  SceneProcess& crawler = host.worker(17);
  for (int i = 0; i < 40; i++)
    host.stuck(crawler);
  SceneProcess& other = host.worker(18);
  host.scene.run(15s);
  const auto alone = open_of(host.scene, Kind::StalledReader);
  ASSERT_THAT(alone, SizeIs(1));
  host.stuck(other);
  host.scene.run(15s);
  const auto both = open_of(host.scene, Kind::StalledReader);
  ASSERT_THAT(both, SizeIs(1)) << "41 of two processes";
  EXPECT_EQ(both[0].processes, 2U);
  EXPECT_NE(both[0].id, alone[0].id);
}

TEST(Collapse, ItSplitsAgainWhenItShrinks)
{
  Host host;
  SceneProcess& crawler = host.worker(17);
  std::vector<SceneSocket*> sockets;
  for (int i = 0; i < 20; i++)
    sockets.push_back(&host.stuck(crawler));
  host.scene.run(15s);
  ASSERT_THAT(open_of(host.scene, Kind::StalledReader), SizeIs(1));
  const std::uint64_t whole = open_of(host.scene, Kind::StalledReader)[0].id;
  for (int i = 0; i < 14; i++)
    host.scene.destroy(*sockets[static_cast<std::size_t>(i)]);
  host.scene.run(5s);
  ASSERT_THAT(open_of(host.scene, Kind::StalledReader), SizeIs(1)) << "six: more than half of the limit";
  EXPECT_EQ(open_of(host.scene, Kind::StalledReader)[0].id, whole);
  for (int i = 14; i < 17; i++)
    host.scene.destroy(*sockets[static_cast<std::size_t>(i)]);
  host.scene.run(5s);
  EXPECT_THAT(open_of(host.scene, Kind::StalledReader), SizeIs(3));
  const auto resolved = host.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Regrouped);
}

TEST(Collapse, TheVictimsSideToo)
{
  Host host;
  SceneProcess& sender = host.worker(7, 72, "sender");
  for (std::uint32_t i = 0; i < 40; i++) {
    SceneProcess& reader = host.worker(100 + i);
    SceneSocket& sending = host.scene.tcp(sender);
    SceneSocket& reading = host.scene.tcp(reader);
    sending.sample.tuple.peer = endpoint(10, 0, 0, 9, static_cast<std::uint16_t>(6000 + i));
    Scene::connect(sending, reading);
    reading.window(8 << 10);
    sending.sends(20e3);
    reading.reads(512, 4);
  }
  host.scene.run(60s);
  EXPECT_THAT(open_of(host.scene, Kind::SlowReader), SizeIs(1));
  const auto victims = open_of(host.scene, Kind::RemoteSlowReader);
  ASSERT_THAT(victims, SizeIs(1));
  EXPECT_EQ(victims[0].count, 40U);
  EXPECT_EQ(victims[0].symptom_of, open_of(host.scene, Kind::SlowReader)[0].id);
}

TEST(Collapse, ItIsSaidRarelyAndWithItsGrowth)
{
  Host host;
  SceneProcess& crawler = host.worker(17);
  for (int i = 0; i < 40; i++)
    host.stuck(crawler);
  host.scene.run(60s);
  EXPECT_LE(host.scene.findings().size(), 3U);
  for (int i = 0; i < 60; i++)
    host.stuck(crawler);
  host.scene.run(20s);
  EXPECT_THAT(host.scene.findings().back().message, HasSubstr("was 40, now 100"));
}

// A still record is the sample before it at another time.
TEST(Still, AgesAsIfItHadBeenShown)
{
  Scene shown, still;
  for (Scene* scene : {&shown, &still}) {
    SceneProcess& process = scene->process(17, "reader");
    scene->tcp(process).arrive(4099);
  }
  std::map<std::uint64_t, model::FullSample> before;
  still.alter = [&](model::Tick& tick) {
    std::vector<model::FullSample> changed;
    for (const model::FullSample& sample : tick.sockets) {
      model::FullSample again = sample;
      if (const auto known = before.find(sample.cookie); known != before.end()) {
        again.time = known->second.time;
        again.rwnd_limited = known->second.rwnd_limited;
        if (again.rcv_nxt == known->second.rcv_nxt && again.copied_seq == known->second.copied_seq && again.reads == known->second.reads) {
          tick.still.push_back({sample.cookie, sample.time});
          continue;
        }
      }
      before[sample.cookie] = sample;
      changed.push_back(sample);
    }
    tick.sockets = changed;
  };
  shown.run(60s);
  still.run(60s);
  ASSERT_THAT(still.findings(), SizeIs(shown.findings().size()));
  ASSERT_FALSE(shown.findings().empty());
  for (std::size_t i = 0; i < shown.findings().size(); i++) {
    EXPECT_EQ(still.findings()[i].message, shown.findings()[i].message);
    EXPECT_EQ(still.findings()[i].time, shown.findings()[i].time);
  }
}

TEST(Still, OfASocketThatNobodyKnowsIsNothing)
{
  model::Model model{{}};
  model::Tick tick;
  tick.time = MonoTime{1000s};
  tick.swept = true;
  tick.still.push_back({77, MonoTime{1000s}});
  model.apply(tick);
  EXPECT_TRUE(model.connections().empty());
}

TEST(Still, AWindowThatHoldsBackGoesOnHoldingBack)
{
  model::Connection connection;
  model::FullSample sample;
  sample.time = MonoTime{1000s};
  sample.rwnd_limits = true;
  sample.rwnd_limited = 3s;
  connection.observe(sample, {});
  connection.observe_still(MonoTime{1007s}, {});
  EXPECT_EQ(connection.latest().rwnd_limited, 10s);
}

// A sweep of a minute, in slices that are looked at again after 11 s: what was looked at twice is a finding, and the rest is not
// accused by the time that passes.
TEST(Slices, OnlyWhatWasLookedAtTwiceIsCounted)
{
  Host host;
  SceneProcess& crawler = host.worker(17);
  std::vector<std::uint64_t> cookies;
  for (int i = 0; i < 60; i++)
    cookies.push_back(host.stuck(crawler).sample.cookie);
  host.scene.alter = [&](model::Tick& tick) {
    const auto second = static_cast<std::size_t>(host.scene.elapsed_seconds());
    const auto is_of = [&](const model::FullSample& sample, std::size_t slice) {
      const std::size_t first = slice * 12;  // of five
      return slice < 5 && sample.cookie >= cookies[first] && sample.cookie <= cookies[first + 11];
    };
    const std::size_t shown = second % 12 == 1 ? second / 12 : 99, again = second % 12 == 0 ? second / 12 - 1 : 99;
    std::erase_if(tick.sockets, [&](const model::FullSample& sample) { return !is_of(sample, shown) && !is_of(sample, again); });
    tick.swept = shown == 4;
    tick.swept_from = MonoTime{1000s};
    tick.looked_again = again < 5;
    tick.sweep_period = 60s;
  };
  host.scene.run(11s);
  EXPECT_THAT(host.scene.findings(), SizeIs(0));
  host.scene.run(3s);
  ASSERT_THAT(host.scene.findings(), SizeIs(1)) << "after the second look at the first slice";
  EXPECT_EQ(host.scene.findings()[0].count, 12U);
  host.scene.run(12s);
  EXPECT_EQ(host.scene.findings().back().count, 24U);
  host.scene.run(90s);
  EXPECT_THAT(host.scene.lines(Phase::Resolved), SizeIs(0));
  host.scene.stop();
  EXPECT_EQ(host.scene.findings().back().count, 60U);
}

// The first read of an epoch tells when what had waited was taken, however late the sweep tells of it.
TEST(FirstRead, TellsHowLongSomethingWaited)
{
  const model::ModelOptions options;
  const auto late = [&](MonoTime first_read) {
    model::Connection connection;
    model::FullSample sample;
    sample.time = MonoTime{1000s};
    sample.has_file = true;
    sample.rcv_nxt = 100;
    sample.unread_bytes = 100;
    sample.rcv_window_left = 65535;
    connection.observe(sample, options);
    sample.time = MonoTime{1010s};
    sample.copied_seq = 100;
    sample.unread_bytes = 0;
    sample.first_read_at = first_read;
    connection.observe(sample, options);
    return connection.lateness().looks().empty() ? Duration{} : connection.lateness().looks().back().late;
  };
  EXPECT_EQ(late(MonoTime{1006s}), 5s);
  EXPECT_EQ(late(MonoTime{}), Duration{}) << "not told: it may have been at once";
  EXPECT_EQ(late(MonoTime{999s}), Duration{}) << "an epoch that began before: likewise";
}

TEST(Memory, AStuckConnectionIsSmall)
{
  EXPECT_LE(sizeof(model::Connection), 736U);
  model::Connection connection;
  model::FullSample sample;
  sample.unread_bytes = sample.rcv_nxt = 4099;
  for (int second = 0; second < 600; second++) {
    sample.time = MonoTime{1000s + second * 1s};
    connection.observe(sample, {});
    connection.end_tick({});
  }
  EXPECT_LE(connection.history().capacity(), 16U);
}

TEST(Memory, TheLeastImportantIsForgottenAndNoneThatIsNamed)
{
  model::Model model{{.max_connections = 16}};
  model::Tick tick;
  tick.swept = true;
  for (std::uint64_t cookie = 1; cookie <= 18; cookie++) {
    model::FullSample sample;
    sample.cookie = cookie;
    sample.unread_bytes = sample.rcv_nxt = 4099;
    sample.rcv_window_left = 65535;
    tick.time = sample.time = MonoTime{1000s + std::chrono::seconds(cookie)};
    tick.sockets.push_back(sample);
    model.apply(tick);
    model.shed([](std::uint64_t) { return false; });
  }
  EXPECT_THAT(model.connections(), SizeIs(16));
  EXPECT_EQ(model.evicted(), 2U);
  EXPECT_NE(model.find(1), nullptr) << "it has waited for longest";
  model::Model named{{.max_connections = 2}};
  tick.sockets.resize(4);
  for (model::FullSample& sample : tick.sockets)
    sample.time = tick.time;
  named.apply(tick);
  named.shed([](std::uint64_t cookie) { return cookie <= 4; });
  EXPECT_GE(named.connections().size(), 2U);
}

}  // namespace
}  // namespace laggard::test
