// SPDX-License-Identifier: MIT
// udp-receive-overflow for who loses in bursts: the measure (model/losses.h) and the rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/losses.h"
#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using detect::Severity;
using model::LossHistory;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }
constexpr Duration kApart = 2500ms, kWindow = 60s;

// ---- the measure ----

// Looks once a second, 100 datagrams arrive in each.
struct Socket {
  LossHistory losses;
  LossHistory::Look last{at(0s)};
  void look(std::uint64_t lost)
  {
    const LossHistory::Look now{last.time + 1s, last.drops + lost, last.arrived + 100};
    losses.observe(last, now, kApart, kWindow);
    last = now;
  }
  void look(std::uint64_t lost, int times)
  {
    for (int i = 0; i < times; i++)
      look(lost);
  }
};

TEST(LossHistory, WhoLosesNothingPaysNothing)
{
  Socket it;
  it.look(0, 100);
  EXPECT_TRUE(it.losses.empty());
  EXPECT_EQ(it.losses.bursts().capacity(), 0U);
  EXPECT_EQ(it.losses.dropped(), 0U);
  EXPECT_EQ(it.losses.ratio(), 0);
  EXPECT_EQ(it.losses.share(kWindow), 0);
  EXPECT_EQ(it.losses.span(), 0s);
}

TEST(LossHistory, LossesThatAreCloseAreOneBurst)
{
  Socket it;
  it.look(0, 5);
  it.look(7), it.look(0), it.look(0), it.look(7);
  ASSERT_THAT(it.losses.bursts(), SizeIs(1));
  EXPECT_EQ(it.losses.bursts()[0].begin, at(5s));
  EXPECT_EQ(it.losses.bursts()[0].end, at(9s));
  EXPECT_EQ(it.losses.longest_pause(), 0s);
}

TEST(LossHistory, LossesThatAreApartAreSeveral)
{
  Socket it;
  it.look(7), it.look(0, 3), it.look(7), it.look(0, 9), it.look(7);
  ASSERT_THAT(it.losses.bursts(), SizeIs(3));
  EXPECT_EQ(it.losses.longest_pause(), 9s);
  EXPECT_EQ(it.losses.dropped(), 21U);
}

TEST(LossHistory, TheRatioIsOfWhatCameMeanwhile)
{
  Socket it;
  it.look(0, 20);
  it.look(25), it.look(0, 8), it.look(25);
  EXPECT_EQ(it.losses.span(), 10s);
  EXPECT_EQ(it.losses.arrived(), 1000U);
  EXPECT_DOUBLE_EQ(it.losses.ratio(), 50.0 / 1050);
}

TEST(LossHistory, TheShareTakesTheTimeBeforeTheFirstLossForLikeIt)
{
  Socket it;
  it.look(25), it.look(0, 8), it.look(25);
  EXPECT_DOUBLE_EQ(it.losses.share(kWindow), 50.0 / 6050);
  it.look(0, 60);
  EXPECT_EQ(it.losses.share(kWindow), 0);
}

TEST(LossHistory, BurstsAreForgottenWithTheirWindow)
{
  Socket it;
  it.look(7), it.look(0, 39), it.look(7);
  EXPECT_THAT(it.losses.bursts(), SizeIs(2));
  it.look(0, 21);
  EXPECT_THAT(it.losses.bursts(), SizeIs(1));
  it.look(0, 40);
  EXPECT_TRUE(it.losses.empty());
  EXPECT_EQ(it.losses.bursts().capacity(), 0U);
}

TEST(LossHistory, CountersOfDatagramsWrapAround)
{
  Socket it;
  it.last.arrived = 0xffffff00U;
  it.look(25), it.look(0, 8), it.look(25);
  EXPECT_EQ(it.losses.arrived(), 1000U);
}

// ---- the rule ----

// 500 datagrams a second come. Now and then it is busy elsewhere, for less than a second.
struct Statsd {
  explicit Statsd(detect::DetectorOptions options = {}, Duration interval = 1s) : scene(std::move(options), interval)
  {
    socket.reads(100, 1000).arrives(50'000);
    scene.run(30s);
  }
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "statsd"));

  void burst(std::uint32_t lost, Duration period = 10s)
  {
    socket.sample.drops += lost;
    scene.run(period);
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::UdpReceiveOverflow); }
};

double threshold(const Finding& finding, std::string_view name)
{
  for (const detect::Field& field : finding.thresholds)
    if (field.name == name)
      return std::get<double>(field.value);
  ADD_FAILURE() << "no threshold '" << name << "'";
  return 0;
}

TEST(LossInBursts, ATenthEveryTenSecondsIsFoundWithTheSecondBurst)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}, Duration{2s}}) {
    Statsd it{{}, interval};
    it.burst(550);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds(interval);
    it.burst(550);
    ASSERT_THAT(it.opened(), SizeIs(1)) << seconds(interval);
    const Finding found = it.opened()[0];
    EXPECT_EQ(found.severity, Severity::Critical);
    EXPECT_EQ(found.process.comm, "statsd");
    EXPECT_THAT(found.message, HasSubstr("loses datagrams in bursts"));
    EXPECT_NEAR(evidence(found, "drops_ratio"), 0.15, 0.06);
    EXPECT_EQ(evidence(found, "drop_bursts"), 2);
    EXPECT_EQ(evidence(found, "drops_total"), 1100);
    EXPECT_EQ(threshold(found, "drop_window_seconds"), 60);
    EXPECT_EQ(threshold(found, "drop_share_ratio"), 0.01);
  }
}

TEST(LossInBursts, OneBurstIsSilentHoweverMuchItLost)
{
  Statsd it;
  it.burst(5'000, 90s);
  it.burst(5'000, 90s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LossInBursts, BurstsThatAreASmallPartOfWhatComesAreSilent)
{
  Statsd it;
  for (int i = 0; i < 10; i++)
    it.burst(80, 30s);  // half a percent
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LossInBursts, ItStaysOpenBetweenBurstsAndResolvesAfterThem)
{
  Statsd it;
  for (int i = 0; i < 20; i++)
    it.burst(550);
  EXPECT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  it.scene.run(20s);
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Subsided);
  it.scene.run(120s);
  EXPECT_THAT(it.scene.lines(Phase::Opened), SizeIs(1));
}

TEST(LossInBursts, BurstsOfUnequalDistanceAreOneFinding)
{
  Statsd it;
  for (int i = 0; i < 15; i++)
    it.burst(800, i % 2 == 0 ? 7s : 13s);
  EXPECT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
}

TEST(LossInBursts, ShareAndWindowAreOptions)
{
  detect::DetectorOptions options;
  options.thresholds.drop_share = 0.2;
  Statsd strict{options};
  for (int i = 0; i < 12; i++)
    strict.burst(550);
  EXPECT_THAT(strict.scene.findings(), IsEmpty());

  options.thresholds.drop_share = 0.01;
  options.thresholds.drop_window = 8s;
  Statsd brief{options};
  for (int i = 0; i < 12; i++)
    brief.burst(550);
  EXPECT_THAT(brief.scene.findings(), IsEmpty());

  options.thresholds.drop_window = 300s;
  Statsd patient{options};
  for (int i = 0; i < 3; i++)
    patient.burst(5'000, 100s);
  ASSERT_THAT(patient.opened(), SizeIs(1));
  EXPECT_EQ(threshold(patient.opened()[0], "drop_window_seconds"), 300);
}

TEST(LossInBursts, TheFindingOfOneThatIsFullIsNotSaidInOtherWordsMeanwhile)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.reads(1000, 100).arrives(1e6);
  scene.run(90s);
  EXPECT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1));
  for (const Finding& finding : scene.findings())
    EXPECT_THAT(finding.message, HasSubstr("datagrams a second"));
}

// All clients flush at once: nothing comes in between, and no sweep shows the socket then.
TEST(LossInBursts, BurstsWithNothingInBetweenAreFound)
{
  for (const Duration period : {Duration{6s}, Duration{10s}, Duration{15s}}) {
    Scene scene;
    SceneSocket& socket = scene.udp(scene.process(17, "statsd"));
    socket.reads(100, 50'000);  // woken by what arrives
    for (int i = 0; i < 12; i++) {
      socket.arrive_datagrams(490, 100);  // room is for half of them
      scene.run(period);
    }
    EXPECT_THAT(scene.opened(Kind::UdpReceiveOverflow), SizeIs(1)) << seconds(period);
  }
}

}  // namespace
}  // namespace laggard::test
