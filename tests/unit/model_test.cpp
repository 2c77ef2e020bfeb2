// SPDX-License-Identifier: MIT
#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::model {
namespace {

using namespace std::chrono_literals;
using test::endpoint;
using testing::ElementsAre;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }

FullSample socket(std::uint64_t cookie, Duration when)
{
  FullSample sample;
  sample.cookie = cookie;
  sample.time = at(when);
  sample.state = TcpState::Established;
  sample.tuple = {endpoint(10, 0, 0, 1, 40'000), endpoint(10, 0, 0, 2, 80)};
  sample.netns = 1;
  sample.has_file = true;
  return sample;
}

Tick tick(Duration when, std::vector<FullSample> sockets = {}, bool swept = true)
{
  Tick result;
  result.time = at(when);
  result.swept = swept;
  result.sockets = std::move(sockets);
  return result;
}

TEST(Model, KnowsItsStartAndItsInterval)
{
  Model model{{}};
  model.apply(tick(0s));
  EXPECT_EQ(model.interval(), 0s);
  model.apply(tick(3s));
  model.apply(tick(5s));
  EXPECT_EQ(model.started(), at(0s));
  EXPECT_EQ(model.now(), at(5s));
  EXPECT_EQ(model.interval(), 2s);
}

TEST(Model, AUdpSocketThatIsNotShownEndsWithItsProcess)
{
  Model model{{.window = 5s}};
  FullSample sample = socket(1, 0s);
  sample.transport = Transport::Udp;
  sample.drops = 7;
  sample.owner = {17, 1};
  ProcessSample owner;
  owner.id = sample.owner;
  const auto look = [&](Duration when, std::vector<FullSample> sockets, std::vector<ProcessSample> processes) {
    Tick one = tick(when, std::move(sockets));
    one.walked_processes = true;
    one.processes = std::move(processes);
    model.apply(one);
  };
  look(0s, {sample}, {owner});
  look(1s, {}, {owner});
  EXPECT_NE(model.find(1), nullptr);
  look(2s, {}, {});
  EXPECT_EQ(model.find(1), nullptr);
}

TEST(Model, ForgetsWhatACompleteSweepDoesNotShowAndNothingElse)
{
  Model model{{}};
  model.apply(tick(0s, {socket(1, 0s), socket(2, 0s)}));
  model.apply(tick(1s, {socket(1, 1s)}, false));
  EXPECT_NE(model.find(2), nullptr);
  model.apply(tick(2s, {socket(1, 2s)}));
  EXPECT_NE(model.find(1), nullptr);
  EXPECT_EQ(model.find(2), nullptr);
  EXPECT_FALSE(model.was_destroyed(2));
}

// One that takes many ticks: each brings what it has come to.
TEST(Model, ForgetsWhatASweepOfManyTicksHasNotShownInAnyOfThem)
{
  Model model{{}};
  model.apply(tick(0s, {socket(1, 0s), socket(2, 0s), socket(3, 0s)}));
  model.apply(tick(1s, {socket(1, 1s)}, false));
  model.apply(tick(2s, {}, false));
  Tick last = tick(3s, {socket(2, 3s)});
  last.swept_from = at(500ms);
  model.apply(last);
  EXPECT_NE(model.find(1), nullptr);
  EXPECT_NE(model.find(2), nullptr);
  EXPECT_EQ(model.find(3), nullptr);
  last = tick(6s, {socket(2, 6s)});
  last.swept_from = at(4s);
  model.apply(last);
  EXPECT_EQ(model.find(1), nullptr) << "the sweep before does not count";
}

TEST(Model, HoldersComeInTheTicksOfASweep)
{
  const Holder one{1, {21, 1}, 7}, other{1, {31, 2}, 7}, elsewhere{2, {41, 3}, 7};
  Model model{{}};
  model.apply(tick(0s, {socket(1, 0s), socket(2, 0s), socket(3, 0s)}));
  const auto walk = [&](Duration when, std::vector<Holder> holders, bool ended) {
    Tick part = tick(when, {}, false);
    part.holders = std::move(holders);
    part.walked_holders = ended;
    model.apply(part);
  };
  walk(1s, {one}, false);
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{21, 1})) << "as far as is known";
  EXPECT_FALSE(known(model.find(2)->holders_checked()));
  walk(2s, {elsewhere, other}, false);
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{21, 1}, ProcessId{31, 2}));
  walk(3s, {}, true);
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{21, 1}, ProcessId{31, 2}));
  EXPECT_THAT(model.find(2)->holders(), ElementsAre(ProcessId{41, 3}));
  EXPECT_TRUE(model.find(3)->holders().empty());
  EXPECT_TRUE(known(model.find(3)->holders_checked())) << "nobody holds it";
  walk(4s, {other}, false);
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{31, 2})) << "of the walk that goes on";
  walk(5s, {}, true);
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{31, 2}));
  EXPECT_TRUE(model.find(2)->holders().empty());
}

TEST(Model, HoldersOfAWalkThatNeverEndsAreBoundedAndSayNothingOfOthers)
{
  Model model{{.max_connections = 2}};
  model.apply(tick(0s, {socket(1, 0s)}));
  for (Duration when = 1s; when <= 100s; when += 1s) {
    Tick part = tick(when, {}, false);
    part.holders = {{1, {21, 1}, 7}, {7, {31, 1}, 7}};
    part.walked_holders = when == 100s;
    model.apply(part);
  }
  EXPECT_THAT(model.find(1)->holders(), ElementsAre(ProcessId{21, 1}));
  Tick next = tick(101s, {}, false);
  next.walked_holders = true;
  model.apply(next);
  EXPECT_TRUE(model.find(1)->holders().empty());
}

TEST(Model, IdleConnectionsComeInTheTicksOfASweep)
{
  const auto pooled = [](std::uint64_t cookie) {
    PooledSample sample;
    sample.cookie = cookie;
    sample.connected = true;
    sample.idle_since = at(0s);
    return sample;
  };
  Model model{{}};
  Tick part = tick(1s, {}, false);
  part.pooled = {pooled(1)};
  model.apply(part);
  EXPECT_EQ(model.pools().find(1), nullptr) << "who else is there is not known";
  Tick last = tick(2s);
  last.pooled = {pooled(2)};
  last.looked_at_pools = true;
  model.apply(last);
  EXPECT_NE(model.pools().find(1), nullptr);
  EXPECT_NE(model.pools().find(2), nullptr);
  last.time = at(3s);
  model.apply(last);
  EXPECT_EQ(model.pools().find(1), nullptr);
}

TEST(Model, AUdpSocketThatLosesStaysForAWhileAndIsDrainedWhereASweepDoesNotShowIt)
{
  for (const std::uint64_t drops : {0U, 7U}) {
    Model model{{.window = 5s}};
    FullSample sample = socket(1, 0s);
    sample.transport = Transport::Udp;
    sample.drops = drops;
    sample.rcv_nxt = 1009;
    sample.copied_seq = 1000;
    sample.unread_bytes = sample.rmem_bytes = 9 * 768;
    sample.queued_packets = 9;
    model.apply(tick(0s, {sample}));
    model.apply(tick(1s, {}, false));
    EXPECT_EQ(model.find(1)->latest().time, at(0s));  // no sweep: nothing is known
    model.apply(tick(2s));
    if (drops == 0) {
      EXPECT_EQ(model.find(1), nullptr);
      continue;
    }
    ASSERT_NE(model.find(1), nullptr);
    EXPECT_EQ(model.find(1)->latest().time, at(2s));
    EXPECT_EQ(model.find(1)->latest().unread_bytes, 0U);
    EXPECT_TRUE(model.find(1)->receive().empty());
    EXPECT_FALSE(known(model.find(1)->standing_since()));
    for (Duration now = 3s; now <= 70s; now += 1s)
      model.apply(tick(now));
    EXPECT_EQ(model.find(1), nullptr);
  }
}

TEST(Model, WhatIsGoneIsForgottenAtOnceAndRememberedAsDestroyedForOneTick)
{
  Model model{{}};
  model.apply(tick(0s, {socket(1, 0s)}));
  Tick next = tick(1s, {socket(1, 900ms)}, false);  // announced and destroyed within one interval
  next.gone = {1};
  model.apply(next);
  EXPECT_EQ(model.find(1), nullptr);
  EXPECT_TRUE(model.was_destroyed(1));
  model.apply(tick(2s));
  EXPECT_FALSE(model.was_destroyed(1));
}

TEST(Model, SamplesThatCrossNeverGoBackInTime)
{
  Model model{{}};
  FullSample newer = socket(1, 2s), older = socket(1, 1s);
  newer.read_bytes = 200;
  older.read_bytes = 100;
  model.apply(tick(2s, {newer, older}));
  EXPECT_EQ(model.find(1)->latest().read_bytes, 200U);
  model.apply(tick(3s, {older}));
  EXPECT_EQ(model.find(1)->latest().time, at(2s));
}

TEST(Model, CountsWhatItHasNoRoomFor)
{
  Model model{{.max_connections = 3}};
  model.apply(tick(0s, {socket(1, 0s), socket(2, 0s), socket(3, 0s)}));
  EXPECT_EQ(model.evicted(), 0U);
  model.apply(tick(1s, {socket(1, 1s), socket(2, 1s), socket(3, 1s), socket(4, 1s), socket(5, 1s)}));
  EXPECT_EQ(model.evicted(), 2U);
  EXPECT_EQ(model.connections().size(), 3U);
  EXPECT_EQ(model.find(1)->latest().time, at(1s));
}

TEST(Model, HoldersBeginWithTheReaderThenTheOwnerThenTheLowestPid)
{
  const auto holders_of = [](std::uint32_t reader, ProcessId owner) {
    Model model{{}};
    FullSample sample = socket(1, 0s);
    sample.reader_tgid = reader;
    sample.owner = owner;
    Tick walk = tick(0s, {sample});
    walk.walked_holders = true;
    walk.holders = {{1, {31, 3}, 7}, {1, {11, 1}, 7}, {1, {21, 2}, 7}, {1, {21, 2}, 9}, {77, {5, 5}, 3}};
    model.apply(walk);
    EXPECT_EQ(model.find(1)->holders_checked(), at(0s));
    std::vector<std::uint32_t> tgids;
    for (ProcessId id : model.find(1)->holders())
      tgids.push_back(id.tgid);
    return tgids;
  };
  EXPECT_THAT(holders_of(31, {21, 2}), ElementsAre(31, 11, 21));
  EXPECT_THAT(holders_of(99, {21, 2}), ElementsAre(21, 11, 31));
  EXPECT_THAT(holders_of(0, {21, 999}), ElementsAre(11, 21, 31));  // the pid was reused
}

// Prefork workers take turns in reading the socket that they share.
TEST(Model, TheFirstHolderStaysFirstWhileItHoldsTheSocket)
{
  Model model{{}};
  FullSample sample = socket(1, 0s);
  sample.owner = {11, 1};
  Duration when{};
  const auto first_after = [&](std::uint32_t reader, std::vector<Holder> holders) {
    when += 1s;
    sample.time = at(when);
    sample.reader_tgid = reader;
    Tick walk = tick(when, {sample});
    walk.walked_holders = true;
    walk.holders = std::move(holders);
    model.apply(walk);
    return model.find(1)->process().tgid;
  };
  const Holder parent{1, {11, 1}, 7}, one{1, {21, 2}, 7}, two{1, {31, 3}, 7}, reused{1, {21, 9}, 7};
  EXPECT_EQ(first_after(0, {parent}), 11U);
  EXPECT_EQ(first_after(0, {one, parent, two}), 11U);
  EXPECT_EQ(first_after(31, {one, parent, two}), 31U);  // the parent only opened it
  EXPECT_EQ(first_after(21, {one, parent, two}), 31U);
  EXPECT_EQ(first_after(21, {one, parent}), 21U);
  EXPECT_EQ(first_after(31, {two, one, parent}), 21U);
  EXPECT_EQ(first_after(31, {two, reused, parent}), 31U);  // another process with that pid
  EXPECT_EQ(first_after(31, {}), 11U);
}

TEST(Model, AWalkThatDoesNotFindASocketSaysThatNobodyHoldsIt)
{
  Model model{{}};
  model.apply(tick(0s, {socket(1, 0s)}));
  EXPECT_FALSE(known(model.find(1)->holders_checked()));
  Tick walk = tick(1s, {socket(1, 1s)});
  walk.walked_holders = true;
  model.apply(walk);
  EXPECT_EQ(model.find(1)->holders_checked(), at(1s));
  EXPECT_TRUE(model.find(1)->holders().empty());
  model.apply(tick(2s, {socket(1, 2s)}));  // no walk: what was known stays
  EXPECT_EQ(model.find(1)->holders_checked(), at(1s));
}

TEST(Model, ProcessesAreIdentifiedByPidAndStartTime)
{
  Model model{{}};
  Tick first = tick(0s);
  first.walked_processes = true;
  first.processes = {{.id = {17, 1}, .comm = "old"}};
  model.apply(first);
  model.apply(tick(1s));  // no walk: nobody exits
  ASSERT_NE(model.find(ProcessId{17, 1}), nullptr);
  Tick second = tick(2s);
  second.walked_processes = true;
  second.processes = {{.id = {17, 9}, .comm = "new"}};
  model.apply(second);
  EXPECT_EQ(model.find(ProcessId{17, 1}), nullptr);
  ASSERT_NE(model.find_tgid(17), nullptr);
  EXPECT_EQ(model.find_tgid(17)->latest().comm, "new");
  EXPECT_EQ(model.find_tgid(18), nullptr);
}

// Two ends: the sender has bytes that its peer has not taken.
FullSample sender(std::uint64_t cookie, Tuple tuple, std::uint32_t netns)
{
  FullSample sample = socket(cookie, 0s);
  sample.tuple = tuple;
  sample.netns = netns;
  sample.snd_una = 100;
  sample.write_seq = 5000;
  return sample;
}

FullSample receiver(std::uint64_t cookie, Tuple tuple, std::uint32_t netns)
{
  FullSample sample = socket(cookie, 0s);
  sample.tuple = tuple;
  sample.netns = netns;
  return sample;
}

const Tuple kRemote{endpoint(10, 0, 0, 1, 40'000), endpoint(10, 0, 0, 2, 80)};
const Tuple kLoopback{endpoint(127, 0, 0, 1, 40'000), endpoint(127, 0, 0, 1, 80)};

TEST(Model, FindsTheOtherEndInTheSameNamespace)
{
  for (const Tuple& tuple : {kRemote, kLoopback}) {
    Model model{{}};
    model.apply(tick(0s, {receiver(1, tuple, 1), sender(2, tuple.reversed(), 1)}));
    EXPECT_EQ(model.peer_of(*model.find(1)), model.find(2));
  }
}

TEST(Model, FindsTheOtherEndInAnotherNamespaceUnlessTheAddressIsLoopback)
{
  Model model{{}};
  model.apply(tick(0s, {receiver(1, kRemote, 1), sender(2, kRemote.reversed(), 2)}));
  EXPECT_EQ(model.peer_of(*model.find(1)), model.find(2));

  Tuple loopback6 = kLoopback;
  for (Endpoint* end : {&loopback6.local, &loopback6.peer}) {
    end->address = {};
    end->address.bytes[15] = 1;
    end->address.is_ipv6 = true;
  }
  for (const Tuple& tuple : {kLoopback, loopback6}) {
    Model other{{}};
    other.apply(tick(0s, {receiver(1, tuple, 1), sender(2, tuple.reversed(), 2)}));
    EXPECT_EQ(other.peer_of(*other.find(1)), nullptr);
  }
}

TEST(Model, AmbiguousPeersAreNoPeersButTheOwnNamespaceDecides)
{
  Model model{{}};
  model.apply(tick(0s, {receiver(1, kRemote, 1), sender(2, kRemote.reversed(), 2), sender(3, kRemote.reversed(), 3)}));
  EXPECT_EQ(model.peer_of(*model.find(1)), nullptr);

  Model decided{{}};
  decided.apply(tick(0s, {receiver(1, kRemote, 1), sender(2, kRemote.reversed(), 2), sender(3, kRemote.reversed(), 3),
                          sender(4, kRemote.reversed(), 1)}));
  EXPECT_EQ(decided.peer_of(*decided.find(1)), decided.find(4));
}

TEST(Model, AUdpSocketHasNoPeer)
{
  Model model{{}};
  FullSample udp = receiver(1, kRemote, 1);
  udp.transport = Transport::Udp;
  model.apply(tick(0s, {udp, sender(2, kRemote.reversed(), 1)}));
  EXPECT_EQ(model.peer_of(*model.find(1)), nullptr);
}

TEST(Model, TheServerSideIsAcceptedOrListensOrSharesAListenersPort)
{
  Model model{{}};
  FullSample listener = socket(9, 0s);
  listener.state = TcpState::Listen;
  listener.tuple = {endpoint(0, 0, 0, 0, 80), {}};
  model.apply(tick(0s, {listener}));
  FullSample sample = socket(1, 0s);
  EXPECT_FALSE(model.is_server_side(sample));
  sample.tuple = kRemote.reversed();
  EXPECT_TRUE(model.is_server_side(sample));  // older than us, but on the listener's port
  sample.netns = 2;
  EXPECT_FALSE(model.is_server_side(sample));
  sample.accepted = true;
  EXPECT_TRUE(model.is_server_side(sample));
  EXPECT_TRUE(model.is_server_side(listener));
  sample = socket(1, 0s);
  sample.tuple = kRemote.reversed();
  sample.connected = true;  // a client that bound the port itself
  EXPECT_FALSE(model.is_server_side(sample));
  model.apply(tick(1s));  // the listener is gone
  sample.connected = false;
  EXPECT_FALSE(model.is_server_side(sample));
}

TEST(Model, TellsTheWorkloadOfAProcessAndOfACgroupThatNobodyIsKnownToBeIn)
{
  Model model{{}};
  const auto unit = [](const char* name) {
    Workload workload;
    workload.systemd_unit = name;
    return workload;
  };
  Tick first = tick(0s);
  first.workloads = {{{17, 1}, 7, unit("a.service")}, {{}, 7, unit("b.service")}};
  model.apply(first);
  EXPECT_EQ(model.workload_of({17, 1}, 7).systemd_unit, "a.service");
  EXPECT_EQ(model.workload_of({}, 7).systemd_unit, "b.service");
  EXPECT_TRUE(model.workload_of({17, 2}, 7).empty());  // the pid is another's now
  EXPECT_TRUE(model.workload_of({}, 8).empty());
  // A name may come later, and stays when its process has gone.
  Tick second = tick(1s);
  second.workloads = {{{17, 1}, 7, unit("c.service")}};
  second.walked_processes = true;
  model.apply(second);
  model.apply(tick(2s));
  EXPECT_EQ(model.workload_of({17, 1}, 7).systemd_unit, "c.service");
}

TEST(Net, AddressesReadAsTheyAreWritten)
{
  const auto ipv6 = [](std::initializer_list<int> groups) {
    Address address;
    address.is_ipv6 = true;
    std::size_t i = 0;
    for (int group : groups) {
      address.bytes[i++] = static_cast<std::uint8_t>(group >> 8);
      address.bytes[i++] = static_cast<std::uint8_t>(group & 255);
    }
    return address;
  };
  EXPECT_EQ(to_string(kRemote), "10.0.0.1:40000>10.0.0.2:80");
  EXPECT_EQ(to_string(Endpoint{{}, 53}), "*:53");
  EXPECT_EQ(to_string(ipv6({0, 0, 0, 0, 0, 0, 0, 1})), "::1");
  EXPECT_EQ(to_string(ipv6({0xfd00, 0, 0, 0, 0, 0, 0, 0})), "fd00::");
  EXPECT_EQ(to_string(ipv6({0x2001, 0xdb8, 0, 0, 1, 0, 0, 1})), "2001:db8::1:0:0:1");
  EXPECT_EQ(to_string(ipv6({0x2001, 0xdb8, 0, 1, 1, 1, 1, 1})), "2001:db8:0:1:1:1:1:1");
  EXPECT_EQ(to_string(ipv6({1, 0, 0, 2, 0, 0, 0, 3})), "1:0:0:2::3");
  EXPECT_EQ(to_string(Endpoint{ipv6({0xfe80, 0, 0, 0, 0, 0, 0, 1}), 80}), "[fe80::1]:80");
  EXPECT_EQ(to_string(TcpState::FinWait2), "fin_wait_2");
  EXPECT_EQ(to_string(static_cast<TcpState>(99)), "unknown");
}

}  // namespace
}  // namespace laggard::model
