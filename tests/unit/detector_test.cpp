// SPDX-License-Identifier: MIT
// DESIGN 5.4: one incident, one finding, opened once, updated rarely, resolved once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using detect::Severity;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

SceneSocket& stalled(Scene& scene, SceneProcess& process)
{
  SceneSocket& socket = scene.tcp(process);
  socket.arrive(700);
  return socket;
}

// ---- grouping ----

TEST(Grouping, ManySocketsOfOneProcessToOneEndpointAreOneFindingWithExamples)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  for (int i = 0; i < 551; i++)
    stalled(scene, process);
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  const Finding& finding = scene.findings()[0];
  EXPECT_EQ(finding.count, 551U);
  EXPECT_TRUE(finding.is_group);
  ASSERT_THAT(finding.examples, SizeIs(5));
  EXPECT_EQ(std::set(finding.examples.begin(), finding.examples.end()).size(), 5U);
}

TEST(Grouping, OneSocketIsNoGroup)
{
  Scene scene;
  stalled(scene, scene.process(17, "leaker"));
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_FALSE(scene.findings()[0].is_group);
  EXPECT_EQ(scene.findings()[0].count, 1U);
  EXPECT_THAT(scene.findings()[0].examples, IsEmpty());
  EXPECT_THAT(scene.findings()[0].holders, IsEmpty());
}

TEST(Grouping, EndpointsNamespacesAndProcessesAreSeparateFindings)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  stalled(scene, process);
  stalled(scene, process).sample.tuple.peer.port = 81;
  stalled(scene, process).sample.tuple.peer.address.bytes[3] = 77;
  stalled(scene, process).sample.netns = 4026532000;
  stalled(scene, scene.process(19, "leaker"));
  scene.run(20s);
  EXPECT_THAT(scene.opened(Kind::StalledReader), SizeIs(5));
  std::set<std::uint64_t> ids;
  for (const Finding& finding : scene.findings())
    ids.insert(finding.id);
  EXPECT_THAT(ids, SizeIs(5));
}

TEST(Grouping, AServersConnectionsAreGroupedByItsOwnEndpoint)
{
  Scene scene;
  SceneProcess& server = scene.process(17, "server");
  for (std::uint8_t i = 0; i < 7; i++) {
    SceneSocket& socket = stalled(scene, server);
    socket.sample.connected = false;
    socket.sample.accepted = true;
    socket.sample.tuple = {endpoint(10, 0, 0, 1, 80), endpoint(10, 0, 1, i, 50'000)};
  }
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_EQ(scene.findings()[0].count, 7U);
  ASSERT_TRUE(scene.findings()[0].socket);
  EXPECT_TRUE(scene.findings()[0].socket->accepted);
}

TEST(Grouping, AMemberQualifiesByItsOwnAge)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  stalled(scene, process);
  scene.run(5s);
  stalled(scene, process);
  scene.run(8s);  // the first is 13 s old, the second 8 s
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_EQ(scene.findings()[0].count, 1U);
  for (int i = 0; i < 12; i++)
    stalled(scene, process);
  scene.run(13s);
  EXPECT_EQ(scene.findings().back().phase, Phase::Updated);  // so many more are worth saying at once
  EXPECT_EQ(scene.findings().back().count, 14U);
  for (const Finding& finding : scene.findings())
    EXPECT_THAT(finding.count, testing::AnyOf(1U, 2U, 14U));
}

TEST(Grouping, TheWorstMemberIsTheOneThatIsShown)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  for (int i = 0; i < 3; i++) {
    stalled(scene, process).sample.tuple.local.port = static_cast<std::uint16_t>(41'000 + i);
    scene.run(1s);
  }
  scene.run(15s);
  scene.stop();
  ASSERT_THAT(scene.findings().front().examples, IsEmpty());  // one was ripe first
  EXPECT_EQ(scene.findings().front().socket->tuple.local.port, 41'000);
  EXPECT_GE(scene.findings().front().duration, 10s);
}

// ---- lifecycle ----

TEST(Lifecycle, OpenedOnceUpdatedHalfAsOftenEachTimeResolvedOnce)
{
  detect::DetectorOptions options;
  options.thresholds.stall = 1000s;  // so that neither severity nor the class of lag changes meanwhile
  Scene scene{options};
  stalled(scene, scene.process(17, "reader"));
  scene.run(2500s);
  scene.stop();
  const auto& lines = scene.findings();
  ASSERT_THAT(lines, SizeIs(testing::Gt(5U)));
  for (std::size_t i = 0; i < lines.size(); i++) {
    EXPECT_EQ(lines[i].id, lines[0].id);
    EXPECT_EQ(lines[i].sequence, i + 1);
    EXPECT_EQ(lines[i].phase, i == 0 ? Phase::Opened : i + 1 == lines.size() ? Phase::Resolved : Phase::Updated);
    if (i >= 2 && i + 1 < lines.size()) {
      EXPECT_EQ(lines[i].time - lines[i - 1].time, 2 * (lines[i - 1].time - lines[i - 2].time));
    }
  }
}

TEST(Lifecycle, AChangeOfSeverityIsSaidAtOnce)
{
  Scene scene;
  stalled(scene, scene.process(17, "reader"));
  scene.run(200s);
  const auto updates = scene.lines(Phase::Updated);
  const auto critical = std::ranges::find(updates, Severity::Critical, &Finding::severity);
  ASSERT_NE(critical, updates.end());
  EXPECT_GE(critical->duration, 100s);
  EXPECT_LE(critical->duration, 101s);
}

TEST(Lifecycle, AnHourIsTheLongestPause)
{
  Scene scene{{}, 10s};
  stalled(scene, scene.process(17, "reader"));
  scene.run(24h);
  const auto updates = scene.lines(Phase::Updated);
  ASSERT_GE(updates.size(), 20U);
  for (std::size_t i = 1; i < updates.size(); i++)
    EXPECT_LE(updates[i].time - updates[i - 1].time, 1h);
  EXPECT_EQ(updates.back().time - updates[updates.size() - 2].time, 1h);
}

TEST(Lifecycle, SeverityNeverFallsWhileAFindingIsOpen)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "reader");
  SceneSocket& old = stalled(scene, process);
  scene.run(50s);
  stalled(scene, process);
  scene.run(60s);
  EXPECT_EQ(scene.findings().back().severity, Severity::Critical);
  old.splice(700);  // the remaining member is far from critical
  scene.run(30s);
  for (int i = 0; i < 30; i++)
    stalled(scene, process);
  scene.run(30s);
  scene.stop();
  const auto& lines = scene.findings();
  const auto critical = std::ranges::find(lines, Severity::Critical, &Finding::severity);
  EXPECT_GE(lines.end() - critical, 3);
  EXPECT_TRUE(std::all_of(critical, lines.end(), [](const Finding& line) { return line.severity == Severity::Critical; }));
}

TEST(Lifecycle, ATickThatComesAMomentEarlyDoesNotCostAnother)
{
  Scene scene;
  int ticks = 0;
  scene.alter = [&](model::Tick& tick) { tick.time = tick.time - std::chrono::microseconds(100 * ++ticks); };
  stalled(scene, scene.process(17, "sleeper"));
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  // It waits since the first second, of which the first look says only that it may have been read.
  EXPECT_LT(scene.findings()[0].duration, 11s);
}

TEST(Lifecycle, TimesAreThoseOfTheConditionNotOfTheReport)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "reader");
  scene.run(20s);
  stalled(scene, process);
  scene.run(40s);
  const Finding& finding = scene.findings().at(0);
  EXPECT_EQ(finding.start_time, finding.time - finding.duration);
  EXPECT_GE(finding.start_time - WallTime{1'700'000'020s}, 0s);
  EXPECT_LE(finding.start_time - WallTime{1'700'000'021s}, 0s);
  EXPECT_FALSE(finding.start_is_lower_bound);
}

Resolution resolution_of(Scene& scene)
{
  const auto resolved = scene.lines(Phase::Resolved);
  EXPECT_THAT(resolved, SizeIs(1));
  return resolved.at(0).resolution.value();
}

TEST(Resolution, DrainedWhenTheReaderTookEverything)
{
  Scene scene;
  SceneSocket& socket = stalled(scene, scene.process(17, "reader"));
  scene.run(20s);
  socket.read(4096);
  scene.run(20s);
  EXPECT_EQ(resolution_of(scene), Resolution::Drained);
  EXPECT_EQ(scene.detector().counts().open, 0U);
  EXPECT_EQ(scene.detector().counts().opened, 1U);
}

TEST(Resolution, ClosedAtOnceWhenTheSocketIsGone)
{
  Scene scene;
  SceneSocket& socket = stalled(scene, scene.process(17, "reader"));
  scene.run(20s);
  scene.destroy(socket);
  scene.run(1s);
  EXPECT_EQ(resolution_of(scene), Resolution::Closed);
}

TEST(Resolution, ProcessExitedAtOnceWhenItTookItsSocketsAlong)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "reader");
  SceneSocket& socket = stalled(scene, process);
  scene.run(20s);
  scene.destroy(socket);
  scene.exit(process);
  scene.run(1s);
  EXPECT_EQ(resolution_of(scene), Resolution::ProcessExited);
  EXPECT_EQ(scene.findings().back().process.comm, "reader");
}

TEST(Resolution, SubsidedWhenTheConditionEndedButBytesRemain)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.window(16 << 20).arrives(100'000).reads(9'000, 10);
  scene.run(30s);
  ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  socket.reads(11'000, 10);  // catches up, but for 0.3 s
  while (socket.sample.unread_bytes > 30'000)
    scene.run(1s);
  socket.reads(10'000, 10);
  scene.run(20s);
  EXPECT_EQ(resolution_of(scene), Resolution::Subsided);
}

TEST(Resolution, AProcessThatStopsGrowingHasSubsided)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "hoarder");
  scene.tcp(process).arrives(1e6).drains(16'384, 100);
  process.anon_bytes = [](double t) { return 50e6 + 1e6 * std::min(t, 45.0); };
  scene.run(90s);
  ASSERT_THAT(scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_EQ(resolution_of(scene), Resolution::Subsided);
}

TEST(Resolution, ObserverStoppedWhenWeLeave)
{
  Scene scene;
  stalled(scene, scene.process(17, "reader"));
  scene.run(20s);
  scene.stop();
  EXPECT_EQ(resolution_of(scene), Resolution::ObserverStopped);
  scene.stop();
  EXPECT_THAT(scene.findings(), SizeIs(2));  // once
}

TEST(Resolution, ACloseWaitThatEndsIsClosed)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "client"));
  socket.peer_closes();
  scene.run(70s);
  ASSERT_THAT(scene.opened(Kind::CloseWait), SizeIs(1));
  scene.destroy(socket);
  scene.run(1s);
  EXPECT_EQ(resolution_of(scene), Resolution::Closed);
}

TEST(Hysteresis, ADipBelowTheThresholdDoesNotCloseAndOpenAgain)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.window(16 << 20).arrives(100'000).reads(9'000, 10);
  scene.run(20s);
  ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  for (int i = 0; i < 10; i++) {  // between 0.7 s and 1.3 s behind
    socket.reads(15'000, 10);
    while (socket.sample.unread_bytes > 70'000)
      scene.run(1s);
    socket.reads(5'000, 10);
    while (socket.sample.unread_bytes < 130'000)
      scene.run(1s);
  }
  EXPECT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty());
}

TEST(Hysteresis, AGroupLivesAsLongAsOneOfItsMembers)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  SceneSocket* socket = &stalled(scene, process);
  scene.run(20s);
  for (int i = 0; i < 5; i++) {
    SceneSocket* next = &stalled(scene, process);
    scene.run(12s);
    scene.destroy(*socket);
    scene.run(10s);
    socket = next;
  }
  EXPECT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty());
}

TEST(Resolution, AGroupWhoseMembersClosedOneAfterTheOtherIsClosed)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "leaker");
  SceneSocket& first = stalled(scene, process);
  SceneSocket& second = stalled(scene, process);
  scene.run(24s);
  scene.destroy(first);
  scene.run(2s);  // says nothing new in between
  scene.destroy(second);
  scene.run(1s);
  EXPECT_EQ(resolution_of(scene), Resolution::Closed);
}

TEST(Hysteresis, AStalledReaderThatTakesALittleNowAndThenIsNotOpenedAgainAndAgain)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.arrive(100'000);
  scene.run(20s);
  for (int i = 0; i < 10; i++) {
    socket.read(17);
    scene.run(20s);
  }
  EXPECT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
}

TEST(Hysteresis, AStalledReaderThatReadsOnButTooSlowlyBecomesASlowOne)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.window(16 << 20).arrives(100'000);
  scene.run(20s);
  ASSERT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(scene.opened(Kind::SlowReader), IsEmpty());
  socket.reads(9'000, 10);
  scene.run(30s);
  EXPECT_EQ(resolution_of(scene), Resolution::Subsided);
  EXPECT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
}

// ---- holders ----

TEST(Holders, AFindingWaitsForTheWalkThatItAskedFor)
{
  Scene scene;
  scene.walks_holders = false;
  stalled(scene, scene.process(17, "reader"));
  scene.run(7s);
  EXPECT_FALSE(scene.detector().wants_holders());
  scene.run(3s);
  EXPECT_TRUE(scene.detector().wants_holders());
  scene.run(2s);
  EXPECT_THAT(scene.findings(), IsEmpty());
  scene.walks_holders = true;
  scene.run(1s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_THAT(scene.findings()[0].quality.missing, Not(Contains(HasSubstr("not verified"))));
}

TEST(Holders, WithoutAWalkItOpensAfterPatienceAndSaysSo)
{
  Scene scene;
  scene.walks_holders = false;
  stalled(scene, scene.process(17, "reader"));
  scene.run(13s);
  EXPECT_THAT(scene.findings(), IsEmpty());
  scene.run(2s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_THAT(scene.findings()[0].quality.missing, Contains(HasSubstr("not verified")));
  EXPECT_EQ(scene.findings()[0].process.comm, "reader");  // who connected
}

TEST(Holders, AnOrphanDoesNotHideTheOthersOfItsGroup)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "reader");
  SceneSocket& orphan = stalled(scene, process);
  scene.run(3s);
  SceneSocket& held = stalled(scene, process);
  orphan.holders.clear();  // the older and so the worse one
  scene.run(30s);
  const auto opened = scene.opened(Kind::StalledReader);
  ASSERT_THAT(opened, SizeIs(1));
  for (const Finding& line : scene.findings())
    EXPECT_EQ(line.count, 1U);
  ASSERT_TRUE(opened[0].socket);
  EXPECT_EQ(opened[0].socket->cookie, held.sample.cookie);
}

TEST(Holders, ASocketThatTheWalkDoesNotFindIsAnOrphanOnItsWayOut)
{
  Scene scene;
  SceneSocket& socket = stalled(scene, scene.process(17, "reader"));
  socket.holders.clear();  // closed after the sample was taken
  scene.run(60s);
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(Holders, WhoForkedAndClosedIsNotNamedButWhoHoldsTheSocketNow)
{
  Scene scene;
  SceneProcess& parent = scene.process(17, "parent");
  SceneProcess& child = scene.process(19, "child");
  SceneSocket& socket = stalled(scene, parent);
  socket.holders = {child.id};
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_EQ(scene.findings()[0].process.comm, "child");
  EXPECT_EQ(scene.findings()[0].process.id, child.id);
}

TEST(Holders, AllOfThemAreNamedTheReaderFirst)
{
  Scene scene;
  SceneProcess& reader = scene.process(23, "reader");
  SceneSocket& socket = scene.tcp(reader);
  socket.holders = {scene.process(17, "parent").id, scene.process(19, "child").id, reader.id};
  socket.window(16 << 20).arrives(100'000).reads(1'000, 10);
  scene.run(20s);
  const auto found = scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].holders, ElementsAre(23, 17, 19));
  EXPECT_EQ(found[0].process.comm, "reader");
}

// ---- what a finding carries ----

TEST(Quality, HooksMissingAndLossesTravelWithTheFinding)
{
  detect::DetectorOptions options;
  options.hooks = "reads=tp_btf/sock_recv_length";
  options.missing = {"executable paths"};
  Scene scene{options};
  stalled(scene, scene.process(17, "reader"));
  scene.lost.ring_full = 1000;  // before it began
  scene.run(20s);
  scene.lost.ring_full += 7;
  scene.lost.no_totals += 4;
  scene.run(60s);
  scene.stop();
  EXPECT_EQ(scene.findings().front().quality.hooks, "reads=tp_btf/sock_recv_length");
  EXPECT_THAT(scene.findings().front().quality.missing, Contains("executable paths"));
  EXPECT_EQ(scene.findings().front().quality.lost_records, 0U);
  EXPECT_EQ(scene.findings().back().quality.lost_records, 11U);
}

TEST(Quality, TimeWithoutALookTravelsWithTheFindingsThatItOverlaps)
{
  Scene scene;
  stalled(scene, scene.process(17, "reader"));
  scene.run(20s);
  scene.run_unobserved(30s);
  scene.run(40s);
  SceneSocket& later = scene.tcp(scene.process(19, "later"));
  later.arrive(1009);
  scene.run(30s);
  scene.stop();
  ASSERT_EQ(scene.opened(Kind::StalledReader).size(), 2U);
  EXPECT_EQ(scene.findings().front().quality.unobserved, 0s);
  for (const Finding& finding : scene.lines(Phase::Resolved))
    EXPECT_EQ(finding.quality.unobserved, finding.process.id.tgid == 17 ? 30s : 0s);
}

// Nobody is accused of what was not seen.
TEST(Quality, TimeWithoutALookMakesNoFinding)
{
  Scene scene;
  scene.tcp(scene.process(17, "batch")).arrives(50e3).drains(1 << 20, 1.1);
  scene.tcp(scene.process(19, "bulk")).arrives(5e6).reads(64 << 10, 1000);
  scene.udp(scene.process(23, "datagrams")).arrives(20e3).reads(200, 200);
  scene.run(20s);
  for (const Duration gap : {Duration(3500ms), Duration(12s), Duration(30s), Duration(300s)}) {
    scene.run_unobserved(gap);
    scene.run(20s);
  }
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(Identity, TheProcessIsNamedWithItsStart)
{
  Scene scene;
  SceneProcess& process = scene.process(4121, "qt-viewer");
  stalled(scene, process);
  scene.run(20s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  const detect::ProcessRef& ref = scene.findings()[0].process;
  EXPECT_EQ(ref.id, process.id);
  EXPECT_EQ(ref.vpid, 4121U);
  EXPECT_EQ(ref.creation_time - WallTime{1'700'000'000s}, Duration{static_cast<std::int64_t>(process.id.start_ns)} - 1000s);
}

TEST(Identity, TwoRunsOfOneSceneGiveTheSameLines)
{
  const auto play = [] {
    Scene scene;
    SceneProcess& process = scene.process(17, "reader");
    for (int i = 0; i < 9; i++)
      stalled(scene, process).sample.tuple.peer.port = static_cast<std::uint16_t>(80 + i % 3);
    scene.tcp(process).window(100'000).arrives(60e6).reads(12, 450'000);
    scene.run(120s);
    scene.stop();
    std::vector<std::string> lines;
    for (const Finding& finding : scene.findings())
      lines.push_back(std::to_string(finding.id) + " " + std::to_string(finding.sequence) + " " + finding.message);
    return lines;
  };
  const auto first = play();
  EXPECT_THAT(first, SizeIs(testing::Gt(8U)));
  EXPECT_EQ(first, play());
}

TEST(Identity, AConditionThatComesBackIsANewFinding)
{
  Scene scene;
  SceneSocket& socket = stalled(scene, scene.process(17, "reader"));
  scene.run(20s);
  socket.read(4096);
  scene.run(20s);
  socket.arrive(900);
  scene.run(20s);
  const auto found = scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_NE(found[0].id, found[1].id);
  EXPECT_EQ(found[1].sequence, 1U);
}

// ---- filters ----

// Two processes, three kinds, two ports, two namespaces.
std::vector<Finding> opened_with(const std::function<void(detect::Filter&)>& restrict)
{
  detect::DetectorOptions options;
  restrict(options.filter);
  Scene scene{options};
  SceneProcess& one = scene.process(17, "one");
  SceneProcess& two = scene.process(19, "two");
  stalled(scene, one);                                 // stalled-reader, 10.0.0.9:80
  SceneSocket& other = stalled(scene, two);            // stalled-reader, port 81, another namespace and cgroup
  other.sample.tuple.peer.port = 81;
  other.sample.netns = 4026532000;
  other.sample.cgroup_id = 7001;
  scene.tcp(two).peer_closes();                        // close-wait
  scene.tcp(one).arrives(1e6).drains(16'384, 100);     // user-space-buffering
  one.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  one.cgroup_id = 7013;
  scene.run(70s);
  return scene.lines(Phase::Opened);
}

TEST(Filter, WithoutOneEverythingIsReported) { EXPECT_THAT(opened_with([](auto&) {}), SizeIs(4)); }

TEST(Filter, ByKind)
{
  EXPECT_THAT(opened_with([](auto& filter) { filter.kinds = {Kind::CloseWait}; }), ElementsAre(testing::Field(&Finding::kind, Kind::CloseWait)));
  EXPECT_THAT(opened_with([](auto& filter) { filter.kinds = {Kind::CloseWait, Kind::StalledReader}; }), SizeIs(3));
}

TEST(Filter, ByProcess)
{
  EXPECT_THAT(opened_with([](auto& filter) { filter.tgids = {17}; }), SizeIs(2));
  EXPECT_THAT(opened_with([](auto& filter) { filter.comms = {"two"}; }), SizeIs(2));
  EXPECT_THAT(opened_with([](auto& filter) { filter.comms = {"one", "two"}; }), SizeIs(4));
  EXPECT_THAT(opened_with([](auto& filter) { filter.comms = {"three"}; }), IsEmpty());
}

// As `laggard snapshot --pid` does.
TEST(Filter, ByAnyProcessThatHoldsTheSocket)
{
  for (const auto& [tgid, findings] : {std::pair{17U, 1U}, {19U, 1U}, {23U, 1U}, {29U, 0U}}) {
    detect::DetectorOptions options;
    options.filter.tgids = {tgid};
    Scene scene{options};
    SceneProcess& reader = scene.process(23, "reader");
    SceneProcess& child = scene.process(17, "child");
    SceneProcess& grandchild = scene.process(19, "grandchild");
    scene.process(29, "stranger");
    stalled(scene, reader).holders = {child.id, grandchild.id, reader.id};
    scene.run(60s);
    const auto opened = scene.lines(Phase::Opened);
    ASSERT_THAT(opened, SizeIs(findings)) << tgid;
    if (findings > 0) {
      EXPECT_EQ(opened[0].process.comm, "reader");
      EXPECT_THAT(opened[0].holders, testing::UnorderedElementsAre(17, 19, 23));
    }
  }
}

TEST(Filter, ByPortOfEitherEndWhichLeavesOutFindingsAboutProcesses)
{
  EXPECT_THAT(opened_with([](auto& filter) { filter.ports = {81}; }), ElementsAre(testing::Field(&Finding::kind, Kind::StalledReader)));
  EXPECT_THAT(opened_with([](auto& filter) { filter.ports = {80}; }), SizeIs(2));
  EXPECT_THAT(opened_with([](auto& filter) { filter.ports = {40001}; }), SizeIs(1));
}

TEST(Filter, ByNamespaceAndCgroup)
{
  EXPECT_THAT(opened_with([](auto& filter) { filter.netns = {4026532000}; }), SizeIs(1));
  EXPECT_THAT(opened_with([](auto& filter) { filter.cgroup_ids = {7001}; }), SizeIs(1));
  EXPECT_THAT(opened_with([](auto& filter) { filter.cgroup_ids = {7013}; }),
              ElementsAre(testing::Field(&Finding::kind, Kind::UserSpaceBuffering)));
  EXPECT_THAT(opened_with([](auto& filter) { filter.cgroup_ids = {7019}; }), IsEmpty());
  EXPECT_THAT(opened_with([](auto& filter) { filter.ports = {80}; filter.netns = {4026532000}; }), IsEmpty());
}

TEST(Filter, BelowTheLeastSeverityNothingIsOpenedUntilItGetsWorse)
{
  detect::DetectorOptions options;
  options.filter.min_severity = Severity::Critical;
  Scene scene{options};
  stalled(scene, scene.process(17, "reader"));
  scene.run(90s);
  EXPECT_THAT(scene.findings(), IsEmpty());
  EXPECT_FALSE(scene.detector().counts().any_warning);
  scene.run(15s);
  ASSERT_THAT(scene.findings(), SizeIs(1));
  EXPECT_EQ(scene.findings()[0].phase, Phase::Opened);
  EXPECT_EQ(scene.findings()[0].severity, Severity::Critical);
  EXPECT_TRUE(scene.detector().counts().any_critical);
}

// ---- sources that look less often ----

TEST(Sweeps, AStretchedSweepFindsLaterButWithTheRightAge)
{
  Scene scene;
  scene.sweep_every_ticks = 7;
  SceneProcess& process = scene.process(17, "reader");
  scene.run(20s);
  stalled(scene, process);
  scene.run(40s);
  ASSERT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_GE(scene.findings()[0].start_time - WallTime{1'700'000'020s}, 0s);
  EXPECT_LE(scene.findings()[0].start_time - WallTime{1'700'000'021s}, 0s);  // the kernel knows when it came
}

TEST(Sweeps, BusySocketsAnnounceThemselvesBetweenSweeps)
{
  Scene scene;
  scene.sweep_every_ticks = 1000;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.window(100'000).arrives(60e6).reads(12, 450'000);
  scene.run(15s);
  EXPECT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
}

}  // namespace
}  // namespace laggard::test
