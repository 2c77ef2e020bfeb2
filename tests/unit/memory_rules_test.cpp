// SPDX-License-Identifier: MIT
// user-space-buffering and heap-growth where growth can be attributed (DESIGN 5.3, stage 2).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/scene.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;
using detect::Finding;
using detect::Kind;
using detect::Severity;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Reads 1 MB/s over two connections and grows by 1 MB/s.
struct Grower {
  explicit Grower(detect::DetectorOptions options = {}) : scene(std::move(options))
  {
    scene.can_attribute = true;
    for (SceneSocket* socket : {&busy, &quiet})
      socket->arrives(5e5).drains(16'384, 100);
    process.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "grower");
  SceneSocket& busy = scene.tcp(process);
  SceneSocket& quiet = scene.tcp(process);
};

bool says(const Finding& finding, std::string_view part)
{
  return std::ranges::any_of(finding.quality.missing, [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

TEST(Attribution, GrowthWithReadsIsBufferingAndBlamesTheSocketsByShare)
{
  Grower it;
  it.process.grows_with = {{&it.quiet, 0.1, 0.1}, {&it.busy, 0.7, 0.0}};
  it.scene.run(90s);
  ASSERT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), IsEmpty());
  const Finding found = it.scene.opened(Kind::UserSpaceBuffering)[0];
  EXPECT_NEAR(evidence(found, "attributed_ratio"), 0.9, 0.02);
  ASSERT_THAT(found.examples, SizeIs(2));
  EXPECT_EQ(found.examples[0], it.busy.sample.tuple);
  EXPECT_FALSE(says(found, "correlated"));
  EXPECT_FALSE(says(found, "also leaks"));
  EXPECT_EQ(it.scene.attributions, 1);
}

TEST(Attribution, ASocketThatGotPagesByChanceIsNotListed)
{
  Grower it;
  it.process.grows_with = {{&it.quiet, 0.0, 0.06}, {&it.busy, 0.9, 0.0}};
  it.scene.run(90s);
  ASSERT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering)[0].examples, testing::ElementsAre(it.busy.sample.tuple));
}

TEST(Attribution, GrowthWithoutReadsIsHeapGrowthThoughTheRatioWouldFit)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 0.0, 0.05}};
  it.scene.run(90s);
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), IsEmpty());
  ASSERT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  const Finding found = it.scene.opened(Kind::HeapGrowth)[0];
  EXPECT_THAT(found.examples, IsEmpty());
  EXPECT_THAT(found.advice, HasSubstr("laggard explain --pid 17"));
}

TEST(Attribution, TheShareDecidesAndIsAnOption)
{
  for (const auto& [share, buffering] : {std::pair{0.49, false}, {0.51, true}}) {
    Grower it;
    it.process.grows_with = {{&it.busy, share, 0}};
    it.scene.run(60s);
    EXPECT_EQ(it.scene.opened(Kind::UserSpaceBuffering).size(), buffering ? 1U : 0U) << share;
    EXPECT_EQ(it.scene.opened(Kind::HeapGrowth).size(), buffering ? 0U : 1U) << share;
  }
  detect::DetectorOptions strict;
  strict.thresholds.attribution_share = 0.8;
  Grower it{strict};
  it.process.grows_with = {{&it.busy, 0.7, 0}};
  it.scene.run(60s);
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
}

TEST(Attribution, AThreadThatReadsAndLeaksIsSaidToLookTheSame)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 0.0, 0.9}};
  it.scene.run(60s);
  ASSERT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_TRUE(says(it.scene.opened(Kind::UserSpaceBuffering)[0], "also leaks"));
}

TEST(Attribution, NothingIsOpenedBeforeTheWindowAndTheAttributionAreOver)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 1, 0}};
  it.scene.run(34s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(4s);
  EXPECT_THAT(it.scene.findings(), SizeIs(1));
}

// Looks of a long window are seconds apart: with which of them the growth begins must not matter.
TEST(Attribution, ALongWindowFindsWhatAShortOneFinds)
{
  detect::DetectorOptions options;
  options.thresholds.memory_window = 5min;
  for (const double begins : {201.0, 204.0, 207.0, 209.0}) {
    Grower it{options};
    it.process.anon_bytes = [=](double t) { return 50e6 + 1e6 * std::max(t - begins, 0.0); };
    it.process.grows_with = {{&it.busy, 1, 0}};
    it.scene.run(8min);
    EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1)) << begins;
    EXPECT_EQ(it.scene.attributions, 1) << begins;
  }
}

TEST(Attribution, AnIntervalAsLongAsTheAttributionWillDo)
{
  detect::DetectorOptions options;
  options.thresholds.memory_window = 2min;
  Scene scene{options, 5s};
  scene.can_attribute = true;
  SceneProcess& process = scene.process(17, "grower");
  SceneSocket& socket = scene.tcp(process).arrives(1e6).drains(16'384, 100);
  process.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  process.grows_with = {{&socket, 1, 0}};
  scene.alter = [](model::Tick& tick) {
    for (model::GrowthSample& growth : tick.growths)
      growth.begin += 7ms;  // the source begins when its tick is over
  };
  scene.run(150s);
  EXPECT_THAT(scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
}

TEST(Attribution, GrowthThatStopsMeanwhileIsNoFinding)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 1, 0}};
  it.process.anon_bytes = [](double t) { return 50e6 + 1e6 * std::min(t, 31.0); };
  it.scene.run(120s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  EXPECT_GE(it.scene.attributions, 1);
}

TEST(Attribution, GrowthThatNoEventShowedIsNobodys)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 0.3, 0}};
  it.scene.attribution_sees = 0.3;  // all that was seen came with the socket, but it is less than half
  it.scene.run(60s);
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), IsEmpty());
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
}

TEST(Attribution, AnUndecidedSuspectIsLookedAtAgainButNotAllTheTime)
{
  Grower it;
  it.scene.can_attribute = true;
  // Each time it is looked at it happens to give back what it took.
  it.process.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  it.process.grows_with = {};
  detect::DetectorOptions only;
  it.scene.run(300s);
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  EXPECT_EQ(it.scene.attributions, 1);  // open: nothing more to find out
}

TEST(Attribution, ASuspectThatExitsMeanwhileLeavesNothingBehind)
{
  Grower it;
  it.process.grows_with = {{&it.busy, 1, 0}};
  it.scene.run(33s);
  EXPECT_EQ(it.scene.attributions, 1);
  it.scene.destroy(it.busy);
  it.scene.destroy(it.quiet);
  it.scene.exit(it.process);
  it.scene.run(60s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Attribution, OneAtATimeTakesTurns)
{
  Grower it;
  it.scene.attributes_at_once = 1;
  it.process.grows_with = {{&it.busy, 1, 0}};
  SceneProcess& faster = it.scene.process(18, "faster");
  it.scene.tcp(faster);
  faster.anon_bytes = [](double t) { return 3e6 * t; };
  it.scene.run(60s);
  ASSERT_THAT(it.scene.findings(), testing::Not(IsEmpty()));
  EXPECT_EQ(it.scene.findings()[0].process.comm, "grower") << "both have waited for as long, and the other grows faster";
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  EXPECT_EQ(it.scene.attributions, 2);
}

TEST(Attribution, ASuspectPassesAFilterForEitherKind)
{
  detect::DetectorOptions only;
  only.filter.kinds = {Kind::HeapGrowth};
  Grower it{only};
  it.scene.run(60s);
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  detect::DetectorOptions none;
  none.filter.kinds = {Kind::SlowReader};
  Grower other{none};
  other.scene.run(60s);
  EXPECT_EQ(other.scene.attributions, 0);
}

TEST(Attribution, TheCgroupsLimitDecidesHowBadItIs)
{
  Grower it;
  it.scene.cgroup_limit_bytes = 512 << 20;
  it.scene.cgroup_headroom_bytes = 300'000'000;  // 300 s at 1 MB/s
  it.scene.run(60s);
  ASSERT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  const Finding found = it.scene.opened(Kind::HeapGrowth)[0];
  EXPECT_EQ(found.severity, Severity::Critical);
  EXPECT_NEAR(evidence(found, "memory_limit_eta_seconds"), 300, 15);
  EXPECT_EQ(evidence(found, "memory_limit_bytes"), 512 << 20);
}

// Room is what there was less what the process took since, not less what it had taken at today's pace.
TEST(Attribution, TheRoomShrinksByWhatWasReallyTaken)
{
  Grower it;
  it.scene.cgroup_limit_bytes = 4ULL << 30;
  it.scene.cgroup_headroom_bytes = 2'000'000'000;
  it.process.anon_bytes = [](double t) { return 50e6 + 0.3e6 * std::min(t, 1500.0) + 1.2e6 * std::max(t - 1500, 0.0); };
  it.scene.run(1600s);
  ASSERT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  EXPECT_THAT(it.scene.lines(detect::Phase::Resolved), IsEmpty());
  EXPECT_EQ(it.scene.attributions, 1);
  EXPECT_FALSE(it.scene.detector().counts().any_critical);
  // At 1.2 MB/s nearly 600 s are left once 1.28 GB were taken.
  it.scene.run(700s);
  const auto critical = std::ranges::find(it.scene.findings(), Severity::Critical, &Finding::severity);
  ASSERT_NE(critical, it.scene.findings().end());
  EXPECT_NEAR(evidence(*critical, "memory_limit_eta_seconds"), 600, 30);
}

TEST(Attribution, TheHostsMemoryDecidesWhereItIsLess)
{
  Grower it;
  it.scene.cgroup_limit_bytes = 64ULL << 30;
  it.scene.cgroup_headroom_bytes = 60ULL << 30;
  it.scene.host_available_bytes = 500'000'000;
  it.scene.run(60s);
  const Finding found = it.scene.opened(Kind::HeapGrowth).at(0);
  EXPECT_EQ(found.severity, Severity::Critical);
  EXPECT_FALSE(has_evidence(found, "memory_limit_bytes"));
}

// A compiler, a machine that boots: no connection, no business of ours.
TEST(HeapGrowth, AProcessWithoutASocketIsNotEvenTraced)
{
  for (const bool can_attribute : {true, false}) {
    Scene scene;
    scene.can_attribute = can_attribute;
    scene.tcp(scene.process(17, "bystander")).arrives(1e5).drains(16'384, 100);
    scene.process(18, "compiler").anon_bytes = [](double t) { return 5e6 * t; };
    scene.run(90s);
    EXPECT_THAT(scene.findings(), IsEmpty());
    EXPECT_EQ(scene.attributions, 0);
  }
}

TEST(HeapGrowth, AnySocketMakesItOurBusiness)
{
  enum class Has { Listener, IdleConnection, InheritedSocket, ReadOnceLongAgo };
  for (const Has has : {Has::Listener, Has::IdleConnection, Has::InheritedSocket, Has::ReadOnceLongAgo}) {
    Scene scene;
    SceneProcess& process = scene.process(18, "server");
    SceneSocket& socket = scene.tcp(has == Has::InheritedSocket ? scene.process(17, "parent") : process);
    if (has == Has::Listener)
      socket.sample.state = model::TcpState::Listen;
    if (has == Has::InheritedSocket)
      socket.holders.push_back(process.id);
    if (has == Has::ReadOnceLongAgo) {
      socket.arrive(1);
      socket.read(1);
      scene.run(2s);
      scene.destroy(socket);
    }
    process.anon_bytes = [](double t) { return 5e6 * t; };
    scene.can_attribute = true;
    scene.run(90s);
    EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1)) << static_cast<int>(has);
  }
}

// As a heap that is enlarged by some megabytes every few seconds.
TEST(HeapGrowth, AStepwiseLeakIsOneFindingThatStaysOpen)
{
  for (const double rate : {0.5e6, 1e6, 3e6})
    for (const double seconds_per_step : {2.0, 4.0, 7.0}) {
      Grower it;
      it.process.anon_bytes = [=](double t) { return 50e6 + rate * seconds_per_step * std::floor(t / seconds_per_step); };
      it.scene.run(300s);
      EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1)) << rate << " B/s, every " << seconds_per_step << " s";
      EXPECT_THAT(it.scene.lines(detect::Phase::Resolved), IsEmpty()) << rate << " B/s, every " << seconds_per_step << " s";
    }
}

TEST(HeapGrowth, WithoutAttributionOnlyAProcessThatReadsNothingIsAccused)
{
  for (const double read_rate : {0.0, 1e5}) {
    Scene scene;
    SceneProcess& process = scene.process(17, "leaker");
    SceneSocket& socket = scene.tcp(process);
    if (read_rate > 0)
      socket.arrives(read_rate).drains(16'384, 100);
    process.anon_bytes = [](double t) { return 1e6 * t; };  // ten times what it reads
    scene.run(90s);
    EXPECT_THAT(scene.opened(Kind::UserSpaceBuffering), IsEmpty());
    EXPECT_EQ(scene.opened(Kind::HeapGrowth).size(), read_rate > 0 ? 0U : 1U);
  }
}

TEST(HeapGrowth, ItResolvesWhenTheGrowthSubsides)
{
  Grower it;
  it.scene.run(60s);
  EXPECT_THAT(it.scene.opened(Kind::HeapGrowth), SizeIs(1));
  it.process.anon_bytes = [](double) { return 110e6; };
  it.scene.run(60s);
  const auto resolved = it.scene.lines(detect::Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, detect::Resolution::Subsided);
}

// Stage 1 guards both kinds: whatever does not go on is never even traced.
TEST(HeapGrowth, WarmUpSawToothAndCachesAreNotEvenTraced)
{
  const std::pair<const char*, std::function<double(double)>> cases[] = {
      {"warm-up", [](double t) { return 20e6 * std::min(t / 10, 1.0); }},
      {"cache", [](double t) { return 60e6 * std::min(t / 17, 1.0); }},
      {"saw-tooth", [](double t) { return 30e6 + 2e6 * std::fmod(t, 7.0); }},
  };
  for (const auto& [name, bytes] : cases) {
    Grower it;
    it.process.anon_bytes = bytes;
    it.scene.run(180s);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << name;
    EXPECT_EQ(it.scene.attributions, 0) << name;
  }
}

}  // namespace
}  // namespace laggard::test
