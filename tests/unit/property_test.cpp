// SPDX-License-Identifier: MIT
// What no rule may depend on: where the sequence numbers stand, and in which order the kernel tells of things.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>

#include "output/fields.h"
#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;

// Everything that is said, as it is said.
std::vector<std::string> lines_of(const Scene& scene)
{
  std::vector<std::string> lines;
  for (const Finding& finding : scene.findings())
    output::render_json(output::finding_fields({}, finding), lines.emplace_back());
  return lines;
}

std::set<Kind> kinds_of(const Scene& scene)
{
  std::set<Kind> kinds;
  for (const Finding& finding : scene.findings())
    kinds.insert(finding.kind);
  return kinds;
}

// Two minutes in which most rules have something to say.
void play(Scene& scene)
{
  scene.can_attribute = true;
  SceneProcess& viewer = scene.process(4121, "viewer");
  scene.tcp(viewer).window(100'000).arrives(60e6).reads(12, 200);
  SceneProcess& sluggish = scene.process(4127, "sluggish");
  scene.tcp(sluggish).arrives(30'000).reads(1000, 20);
  SceneProcess& deaf = scene.process(4129, "deaf");
  scene.tcp(deaf).arrive(50'021);
  SceneProcess& drained = scene.process(4133, "drained");
  scene.tcp(drained).arrives(900'000).drains(4096, 2);
  SceneProcess& resolver = scene.process(4139, "resolver");
  SceneSocket& datagrams = scene.udp(resolver);
  datagrams.reads(100, 700).arrives(120'000);
  scene.udp(deaf).arrive_datagrams(31, 101);
  SceneProcess& sender = scene.process(4153, "sender");
  SceneProcess& receiver = scene.process(4157, "receiver");
  SceneSocket& from = scene.tcp(sender);
  SceneSocket& to = scene.tcp(receiver);
  Scene::connect(from, to);
  from.sends(2e6);
  to.reads(1000, 100);
  SceneProcess& hoarder = scene.process(4159, "hoarder");
  SceneSocket& first = scene.tcp(hoarder);
  SceneSocket& second = scene.tcp(hoarder);
  first.arrives(700'000).drains(8192, 10);
  second.arrives(700'000).drains(8192, 10);
  hoarder.anon_bytes = [](double t) { return 10e6 + 1.4e6 * t; };
  hoarder.grows_with = {{&first, 0.4, 0.1}, {&second, 0.4, 0.1}};
  SceneProcess& leaker = scene.process(4177, "leaker");
  SceneSocket& closed = scene.tcp(leaker);
  closed.peer_closes();
  scene.run(65s);
  closed.read_eof();
  scene.run(15s);
  for (int i = 0; i < 90; i++) {
    SceneSocket& one = scene.tcp(leaker);
    one.send(307);
    one.arrive(503);
    one.read(503);
    scene.run(1s);
  }
  scene.stop();
}

TEST(Properties, TheSceneHasSomethingToSay)
{
  Scene scene;
  play(scene);
  EXPECT_THAT(kinds_of(scene), testing::IsSupersetOf({Kind::SlowReader, Kind::StalledReader, Kind::CloseWait, Kind::ConnectionLeak,
                                                      Kind::RemoteSlowReader, Kind::UdpReceiveOverflow, Kind::UserSpaceBuffering}));
  EXPECT_GE(scene.opened(Kind::StalledReader).size(), 2U);
}

TEST(Properties, WhereSequenceNumbersBeginChangesNothing)
{
  Scene scene;
  scene.first_position = 0;
  play(scene);
  const std::vector<std::string> expected = lines_of(scene);
  ASSERT_FALSE(expected.empty());
  // Just below the wrap of either side, of the sign, and so that the send side wraps as well.
  for (std::uint32_t first : {0xffffffffU, 0xffffff9cU, 0xffff0000U, 0xffffffffU - 1'000'000U, 0xfff00000U, 0x7fffffffU, 0x80000000U}) {
    Scene wrapped;
    wrapped.first_position = first;
    play(wrapped);
    EXPECT_EQ(lines_of(wrapped), expected) << std::hex << first;
  }
}

TEST(Properties, TheOrderWithinATickChangesNothing)
{
  Scene scene;
  play(scene);
  const std::vector<std::string> expected = lines_of(scene);
  for (unsigned seed = 0; seed < 100; seed++) {
    std::mt19937 random{seed};
    Scene shuffled;
    shuffled.alter = [&](model::Tick& tick) {
      const auto shuffle = [&](auto& samples) {
        if (seed == 0)
          std::ranges::reverse(samples);
        else
          std::ranges::shuffle(samples, random);
      };
      shuffle(tick.sockets);
      shuffle(tick.gone);
      shuffle(tick.holders);
      shuffle(tick.processes);
      shuffle(tick.pooled);
      shuffle(tick.growths);
    };
    play(shuffled);
    ASSERT_EQ(lines_of(shuffled), expected) << "seed " << seed;
  }
}

// A reader of the output can follow every link: what it names is open then, and a cause names its symptom in turn.
TEST(Properties, LinksLeadToFindingsThatWereTold)
{
  Scene scene;
  play(scene);
  std::map<std::uint64_t, WallTime> opened, resolved;
  std::map<std::uint64_t, std::set<std::uint64_t>> ever_symptoms, ever_causes;
  for (const Finding& finding : scene.findings()) {
    if (finding.phase == detect::Phase::Opened)
      opened.try_emplace(finding.id, finding.time);
    if (finding.phase == detect::Phase::Resolved)
      resolved.try_emplace(finding.id, finding.time);
  }
  for (const Finding& finding : scene.findings()) {
    std::vector<std::uint64_t> named = finding.symptoms;
    for (const auto& link : {finding.symptom_of, finding.peer_finding})
      if (link)
        named.push_back(*link);
    for (std::uint64_t id : named) {
      EXPECT_NE(id, finding.id);
      ASSERT_TRUE(opened.contains(id)) << std::hex << id;
      EXPECT_LE(opened.at(id), finding.time);
      EXPECT_TRUE(!resolved.contains(id) || resolved.at(id) >= finding.time) << std::hex << id;
    }
    ever_symptoms[finding.id].insert(finding.symptoms.begin(), finding.symptoms.end());
    if (finding.symptom_of)
      ever_causes[finding.id].insert(*finding.symptom_of);
  }
  EXPECT_FALSE(ever_causes.empty()) << "the scene has an incident";
  for (const auto& [id, causes] : ever_causes)
    for (std::uint64_t cause : causes)
      EXPECT_TRUE(ever_symptoms[cause].contains(id)) << std::hex << id << " of " << cause;
}

// Of two records of one socket in a tick, the announcement proves that the queue was empty; the sweep's does not.
TEST(Properties, ProofOfEmptinessCountsAlsoWhereItComesAfterTheSweep)
{
  for (bool reversed : {false, true}) {
    Scene scene;
    SceneSocket& socket = scene.tcp(scene.process(17, "batch"));
    socket.arrives(900'000).drains(4096, 1);
    if (reversed)
      scene.alter = [](model::Tick& tick) { std::ranges::reverse(tick.sockets); };
    scene.run(60s);
    EXPECT_TRUE(scene.findings().empty()) << reversed;
  }
}

// Containers may have the same addresses: the one of this namespace is the peer, whatever the others.
TEST(Properties, APeerIsTheOneOfItsOwnNamespaceWhicheverIsLookedAtFirst)
{
  model::FullSample reader;
  reader.cookie = 1;
  reader.time = MonoTime{1000s};
  reader.state = model::TcpState::Established;
  reader.tuple = {endpoint(10, 0, 0, 1, 80), endpoint(10, 0, 0, 9, 40'009)};
  reader.netns = 7;
  for (std::uint64_t own = 2; own < 6; own++) {
    model::Tick tick;
    tick.time = MonoTime{1001s};
    tick.sockets = {reader};
    for (std::uint64_t cookie = 2; cookie < 6; cookie++) {
      model::FullSample sender = reader;
      sender.cookie = cookie;
      sender.tuple = reader.tuple.reversed();
      sender.netns = cookie == own ? 7 : 100 + static_cast<std::uint32_t>(cookie);
      sender.write_seq = 1009;
      tick.sockets.push_back(sender);
    }
    model::Model model{{}};
    model.apply(tick);
    const model::Connection* peer = model.peer_of(*model.find(1));
    ASSERT_NE(peer, nullptr) << own;
    EXPECT_EQ(peer->latest().cookie, own);
  }
}

}  // namespace
}  // namespace laggard::test
