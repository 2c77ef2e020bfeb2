// SPDX-License-Identifier: MIT
// connection-leak by process and role: UDP sockets, one connection per host, accepted ones, and sets that somebody listens to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

struct Program {
  explicit Program(detect::DetectorOptions options = {}) : scene(std::move(options)) {}
  Scene scene;
  SceneProcess& process = scene.process(17, "program");
  std::deque<SceneSocket*> sockets;

  SceneSocket& keep(SceneSocket& socket)
  {
    sockets.push_back(&socket);
    return socket;
  }
  static SceneSocket& use(SceneSocket& socket)
  {
    socket.send(100);
    socket.arrive(700);
    socket.read(700);
    return socket;
  }
  // One more connection to one and the same endpoint.
  SceneSocket& open() { return use(keep(scene.tcp(process))); }
  SceneSocket& open_to_another_host()
  {
    SceneSocket& socket = open();
    const std::size_t n = sockets.size();
    socket.sample.tuple.peer = endpoint(10, 1, static_cast<std::uint8_t>(n / 250), static_cast<std::uint8_t>(n % 250), 443);
    return socket;
  }
  SceneSocket& accept()
  {
    SceneSocket& socket = open();
    socket.sample.tuple = {endpoint(10, 0, 0, 1, 8080), socket.sample.tuple.local};
    socket.sample.accepted = true;
    socket.sample.connected = false;
    return socket;
  }
  SceneSocket& query()
  {
    SceneSocket& socket = keep(scene.udp(process));
    socket.arrive_datagrams(1, 100);
    socket.read(100);
    return socket;
  }
  void close_oldest()
  {
    scene.destroy(*sockets.front());
    sockets.pop_front();
  }
  void push_to(std::size_t i)
  {
    sockets[i]->arrive(50);
    sockets[i]->read(50);
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::ConnectionLeak); }
  Duration found_after() const { return opened().at(0).time - WallTime{1'700'000'000s}; }
};

using Open = SceneSocket& (Program::*)();

void open_one_a_second(Program& it, Open open, int how_many)
{
  for (int i = 0; i < how_many; i++) {
    (it.*open)();
    it.scene.run(1s);
  }
}

// ---- UDP ----

TEST(LeakOfUdp, ASocketPerQueryThatIsNeverClosedIsFound)
{
  Program it;
  for (int i = 0; i < 140; i++) {
    it.query();
    if (i % 2 == 0)
      it.scene.run(1s);
  }
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "program");
  EXPECT_THAT(found[0].message, HasSubstr("UDP sockets used once and left open"));
  EXPECT_THAT(found[0].advice, HasSubstr("a socket per exchange"));
  EXPECT_THAT(found[0].quality.missing, Not(IsEmpty())) << "what it sends is not seen";
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->transport, model::Transport::Udp);
  EXPECT_NEAR(evidence(found[0], "opened_per_second"), 2, 0.4);
}

TEST(LeakOfUdp, SocketsThatAreConnectedToServersAreFoundToo)
{
  Program it;
  for (int i = 0; i < 100; i++) {
    it.query().sample.tuple.peer = endpoint(10, 0, 0, static_cast<std::uint8_t>(i % 3), 53);
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.scene.findings().back().message, HasSubstr("to 3 endpoints"));
}

TEST(LeakOfUdp, SocketsThatAreClosedAreSilent)
{
  for (const int kept_for : {0, 5, 45, 90}) {
    Program it;
    // Its numbers are steady when we come.
    for (int i = 0; i < kept_for; i++) {
      SceneSocket& socket = it.query();
      socket.sample.older_than_observer = true;
      socket.sample.last_read = it.scene.now() - 1s * (kept_for - i);
    }
    for (int i = 0; i < 200; i++) {
      it.query();
      it.close_oldest();
      it.scene.run(1s);
    }
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << kept_for;
  }
}

TEST(LeakOfUdp, SocketsThatAreUsedAgainAreSilent)
{
  Program it;
  for (int i = 0; i < 200; i++) {
    if (i % 4 == 0)
      it.query();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if ((i + static_cast<int>(j)) % 20 == 0) {
        it.sockets[j]->arrive_datagrams(1, 100);
        it.sockets[j]->read(100);
      }
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LeakOfUdp, ServersThatBindManyPortsAtOnceAreSilent)
{
  Program it;
  for (int i = 0; i < 100; i++)
    it.keep(it.scene.udp(it.process));
  it.scene.run(300s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// ---- one per host ----

TEST(LeakPerHost, OneConnectionPerHostIsFoundAfterTwiceTheIdleTimeAndNotBefore)
{
  Program it;
  open_one_a_second(it, &Program::open_to_another_host, 59);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  open_one_a_second(it, &Program::open_to_another_host, 115);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_LE(it.found_after(), 80s);
  EXPECT_GE(evidence(found[0], "endpoints"), 10);
  EXPECT_EQ(evidence(found[0], "endpoints"), static_cast<double>(found[0].count));
  EXPECT_THAT(found[0].message, HasSubstr("endpoints used once"));
  EXPECT_THAT(found[0].advice, HasSubstr("for each endpoint it has met"));
}

TEST(LeakPerHost, WhoOpensAnotherWhereOneStandsUnusedIsFoundNoLater)
{
  Program one, many;
  open_one_a_second(one, &Program::open, 100);
  open_one_a_second(many, &Program::open_to_another_host, 100);
  EXPECT_LE(one.found_after(), many.found_after());
}

TEST(LeakPerHost, ACrawlerThatClosesIsSilent)
{
  for (const std::size_t kept : {0U, 10U, 40U}) {
    Program it;
    for (int i = 0; i < 300; i++) {
      it.open_to_another_host();
      if (it.sockets.size() > kept)
        it.close_oldest();
      it.scene.run(1s);
    }
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << kept;
  }
}

TEST(LeakPerHost, ASetThatGrowsAndAlsoShrinksIsSilent)
{
  Program it;
  for (int i = 0; i < 300; i++) {
    it.open_to_another_host();
    if (i >= 45 && i % 4 == 0)
      it.close_oldest();
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LeakPerHost, OneInAHundredThatIsClosedIsNoExcuse)
{
  Program it;
  for (int i = 0; i < 200; i++) {
    it.open_to_another_host();
    if (i % 100 == 50)
      it.close_oldest();
    it.scene.run(1s);
  }
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(LeakPerHost, ManyHostsThatAreAllPolledAreSilent)
{
  Program it;  // Prometheus: 200 targets, each asked every 15 s, found one after the other
  for (int i = 0; i < 240; i++) {
    if (i < 200)
      it.open_to_another_host();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if ((i + static_cast<int>(j)) % 15 == 0)
        Program::use(*it.sockets[j]);
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// ---- accepted ----

TEST(LeakOfAccepted, ConnectionsWhoseClientsVanishedAreFound)
{
  Program it;
  open_one_a_second(it, &Program::accept, 59);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  open_one_a_second(it, &Program::accept, 40);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].message, HasSubstr("accepted connections on port 8080"));
  EXPECT_THAT(found[0].advice, HasSubstr("idle timeout"));
  ASSERT_TRUE(found[0].socket);
  EXPECT_TRUE(found[0].socket->accepted);
  EXPECT_FALSE(found[0].socket->connected);
  EXPECT_EQ(found[0].examples.at(0).local.port, 8080);
}

TEST(LeakOfAccepted, ClientsThatAnswerKeepaliveAreThere)
{
  Program it;
  for (int i = 0; i < 200; i++) {
    it.accept();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if ((i + static_cast<int>(j)) % 25 == 0)
        it.sockets[j]->peer_answers();
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LeakOfAccepted, WhatAProgramHereHoldsAtTheOtherEndIsThatOnesToClose)
{
  Program it;
  SceneProcess& client = it.scene.process(19, "client");
  for (int i = 0; i < 100; i++) {
    SceneSocket& server_end = it.accept();
    SceneSocket& client_end = Program::use(it.scene.tcp(client));
    client_end.sample.tuple = server_end.sample.tuple.reversed();
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].process.comm, "client");
}

TEST(LeakOfAccepted, ClientsThatComeAndGoAreSilent)
{
  Program it;
  for (int i = 0; i < 300; i++) {
    it.accept();
    if (it.sockets.size() > 25)
      it.close_oldest();
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LeakOfAccepted, RolesOfOneProcessAreFindingsOfTheirOwn)
{
  Program it;
  for (int i = 0; i < 100; i++) {
    it.accept();
    it.open_to_another_host();
    it.query();
    it.scene.run(1s);
  }
  EXPECT_THAT(it.opened(), SizeIs(3));
}

TEST(LeakOfAccepted, OneRolesGrowthIsNotAnothers)
{
  Program it;
  for (int i = 0; i < 40; i++)
    it.open_to_another_host();
  open_one_a_second(it, &Program::accept, 100);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.opened()[0].message, HasSubstr("accepted"));
}

// ---- subscriptions ----

// A user a second subscribes; each gets a message so often.
Program& subscribe(Program& it, int users, int message_every)
{
  for (int i = 0; i < users; i++) {
    it.open();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if (i > static_cast<int>(j) && (i - static_cast<int>(j)) % message_every == 0)
        it.push_to(j);
    it.scene.run(1s);
  }
  return it;
}

TEST(Subscriptions, EachUserWithAMessageNowAndThenIsSilent)
{
  for (const int message_every : {5, 12, 25, 31, 45}) {
    Program it;
    subscribe(it, 300, message_every);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << message_every;
  }
}

TEST(Subscriptions, MessagesAtRandomTimesAreSilent)
{
  Program it;
  std::uint32_t random = 17;
  for (int i = 0; i < 400; i++) {
    if (i < 200)
      it.open();
    for (std::size_t j = 0; j < it.sockets.size(); j++) {
      random = random * 1664525 + 1013904223;
      if (random >> 16 < 65536 / 40)
        it.push_to(j);
    }
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Subscriptions, AcceptedOnesWhoseClientsSendNowAndThenAreSilent)
{
  Program it;
  for (int i = 0; i < 300; i++) {
    it.accept();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if (i > static_cast<int>(j) && (i - static_cast<int>(j)) % 28 == 0)
        it.push_to(j);
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// So many of ten connections are listened to.
Program& listen_to(Program& it, int of_ten, int users = 140)
{
  for (int i = 0; i < users; i++) {
    it.open();
    for (std::size_t j = 0; j < it.sockets.size(); j++)
      if (static_cast<int>(j) % 10 < of_ten && (i + static_cast<int>(j)) % 12 == 0)
        it.push_to(j);
    it.scene.run(1s);
  }
  return it;
}

TEST(Subscriptions, MembersInUseDoNotCount)
{
  Program it;
  listen_to(it, 2);
  ASSERT_THAT(it.opened(), SizeIs(1));
  const Finding last = it.scene.findings().back();
  EXPECT_LE(last.count, 140U * 8 / 10 - 20);
  for (const model::Tuple& example : last.examples)
    EXPECT_GE((example.local.port - 40000) % 10, 2);
}

TEST(Subscriptions, WhereAThirdIsListenedToNoneCounts)
{
  Program it;
  listen_to(it, 5);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Subscriptions, TheOthersHaveToBeSilentForTwiceTheLongestSilence)
{
  Program it;
  for (int i = 0; i < 260; i++) {
    it.open();
    if (i == 61)
      it.push_to(1);  // after 60 s
    it.scene.run(1s);
  }
  ASSERT_THAT(it.opened(), testing::Not(IsEmpty()));
  const Finding last = it.scene.findings().back();
  EXPECT_GE(evidence(last, "idle_seconds"), 120);
  EXPECT_LE(last.count, 141U);
}

TEST(Subscriptions, ALeakThatIsOpenEndsOnceTheyAreListenedTo)
{
  Program it;
  open_one_a_second(it, &Program::open, 80);
  ASSERT_THAT(it.opened(), SizeIs(1));
  for (std::size_t i = 0; i < it.sockets.size() / 2; i++)
    it.push_to(i);
  it.scene.run(20s);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), SizeIs(1));
}

}  // namespace
}  // namespace laggard::test
