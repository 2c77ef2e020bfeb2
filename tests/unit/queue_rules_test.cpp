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

}  // namespace
}  // namespace laggard::test
