// SPDX-License-Identifier: MIT
#include "source/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "support/wire.h"

namespace laggard::source {
namespace {

using namespace std::chrono_literals;
using test::append;
using test::kind_of;
using test::raw_tick;
using testing::AllOf;
using testing::HasSubstr;

laggard_tick_record tick_record()
{
  laggard_tick_record record{};
  record.header.epoch = 17;
  record.mono_ns = 1'000'000'000'007;
  record.page_bytes = 4096;
  return record;
}

template <std::size_t N>
void set_address(__u8 (&bytes)[16], const std::uint8_t (&value)[N])
{
  std::copy(std::begin(value), std::end(value), std::begin(bytes));
}

TEST(Decode, EveryFieldOfATick)
{
  laggard_tick_record record = tick_record();
  record.realtime_ns = 1'700'000'000'000'000'011;
  record.boottime_ns = 1'300'000'000'000;
  record.sweep_cpu_us = 1709;
  record.sockets_visited = 36'007;
  record.sweep_period_ns = 2'000'000'003;
  record.lost[LAGGARD_LOST_RING_FULL] = 3;
  record.lost[LAGGARD_LOST_NO_STORAGE] = 5;
  record.lost[LAGGARD_LOST_NO_TOTALS] = 7;
  record.host_memory_available_bytes = 1ULL << 36;
  record.host_shmem_bytes = 1ULL << 30;
  record.skipped_runs = 11;
  record.interval_ns = 1'000'000'009;
  for (__u32 coverage = 0; coverage < 16; coverage++) {
    record.coverage = coverage;
    const auto tick = decode(raw_tick(record));
    ASSERT_TRUE(tick) << tick.error().message();
    EXPECT_EQ(tick->swept, (coverage & LAGGARD_COVERS_SWEEP) != 0);
    EXPECT_EQ(tick->walked_holders, (coverage & LAGGARD_COVERS_HOLDERS) != 0);
    EXPECT_EQ(tick->looked_at_pools, (coverage & LAGGARD_COVERS_POOLED) != 0);
    EXPECT_EQ(tick->walked_processes, (coverage & LAGGARD_COVERS_PROCESSES) != 0);
    EXPECT_EQ(tick->time.time_since_epoch(), 1'000'000'000'007ns);
    EXPECT_EQ(tick->wall_time.time_since_epoch(), 1'700'000'000'000'000'011ns);
    EXPECT_EQ(tick->since_boot, 1300s);
    EXPECT_EQ(tick->epoch, 17U);
    EXPECT_EQ(tick->sweep_cpu, 1709us);
    EXPECT_EQ(tick->sweep_period, 2'000'000'003ns);
    EXPECT_EQ(tick->sockets_visited, 36'007U);
    EXPECT_EQ(tick->lost.ring_full, 3U);
    EXPECT_EQ(tick->lost.no_storage, 5U);
    EXPECT_EQ(tick->lost.no_totals, 7U);
    EXPECT_EQ(tick->lost.total(), 15U);
    EXPECT_EQ(tick->lost.skipped_runs, 11U);
    EXPECT_EQ(tick->meant_interval, 1'000'000'009ns);
    EXPECT_EQ(tick->host_available_bytes, 1ULL << 36);
    EXPECT_EQ(tick->host_shmem_bytes, 1ULL << 30);
  }
}

TEST(Decode, EveryFieldOfAPooledConnection)
{
  laggard_pooled_record record{};
  record.cookie = 2, record.owner_start_ns = 5, record.owner_tgid = 7, record.opened_ns = 11, record.idle_since_ns = 13;
  set_address(record.local, {10, 0, 0, 7});
  set_address(record.peer, {10, 0, 0, 9});
  record.local_port = 52'114, record.peer_port = 17'725, record.netns = 4026531840U, record.family = AF_INET;
  record.flags = LAGGARD_F_CONNECTED;
  const auto tick = decode(raw_tick(tick_record(), record));
  ASSERT_TRUE(tick) << tick.error().message();
  ASSERT_EQ(tick->pooled.size(), 1U);
  const model::PooledSample& sample = tick->pooled[0];
  EXPECT_EQ(sample.cookie, 2U);
  EXPECT_EQ(sample.owner, (model::ProcessId{7, 5}));
  EXPECT_EQ(to_string(sample.tuple), "10.0.0.7:52114>10.0.0.9:17725");
  EXPECT_EQ(sample.netns, 4026531840U);
  EXPECT_TRUE(sample.connected);
  EXPECT_EQ(sample.opened.time_since_epoch(), 11ns);
  EXPECT_EQ(sample.idle_since.time_since_epoch(), 13ns);
}

laggard_growth_record growth_record()
{
  laggard_growth_record record{};
  record.start_ns = 2, record.begin_ns = 3, record.end_ns = 5, record.cookie = 7, record.kernel_pages = 11, record.user_pages = 13;
  record.lost_pages = 17, record.memory_limit_bytes = 19, record.memory_limit_headroom_bytes = 23, record.tgid = 29;
  record.flags = LAGGARD_GROWTH_COMPLETE, record.reads = 31;
  return record;
}

TEST(Decode, EveryFieldOfAGrowth)
{
  laggard_growth_record unfinished = growth_record();
  unfinished.flags = 0, unfinished.cookie = 0;
  const auto tick = decode(raw_tick(tick_record(), growth_record(), unfinished));
  ASSERT_TRUE(tick) << tick.error().message();
  ASSERT_EQ(tick->growths.size(), 2U);
  const model::GrowthSample& sample = tick->growths[0];
  EXPECT_EQ(sample.process, (model::ProcessId{29, 2}));
  EXPECT_EQ(sample.begin.time_since_epoch(), 3ns);
  EXPECT_EQ(sample.end.time_since_epoch(), 5ns);
  EXPECT_TRUE(sample.complete);
  EXPECT_EQ(sample.cookie, 7U);
  EXPECT_EQ(sample.kernel_bytes, 11U * 4096);
  EXPECT_EQ(sample.user_bytes, 13U * 4096);
  EXPECT_EQ(sample.lost_bytes, 17U * 4096);
  EXPECT_EQ(sample.limit_bytes, 19U);
  EXPECT_EQ(sample.headroom_bytes, 23U);
  EXPECT_FALSE(tick->growths[1].complete);
  EXPECT_EQ(tick->growths[1].cookie, 0U);
}

TEST(Decode, AGrowthOfAnOlderOrANewerWriter)
{
  RawTick raw = raw_tick(tick_record());
  append(raw, growth_record(), sizeof(laggard_growth_record) + 16);
  append(raw, growth_record(), offsetof(laggard_growth_record, reads));  // the first version
  append(raw, laggard_gone_record{{}, 77, 0});
  const auto tick = decode(raw);
  ASSERT_TRUE(tick) << tick.error().message();
  ASSERT_EQ(tick->growths.size(), 2U);
  EXPECT_EQ(tick->growths[0].process, (model::ProcessId{29, 2}));
  EXPECT_TRUE(tick->growths[0].complete);
  EXPECT_EQ(tick->growths[0].reads, 31U);
  EXPECT_EQ(tick->growths[1].limit_bytes, 19U);
  EXPECT_EQ(tick->growths[1].reads, 0U);  // what was not said does not count as said
  EXPECT_EQ(tick->gone.at(0), 77U);
}

// Each field has a value of its own, so that two that are swapped show.
laggard_socket_record socket_record()
{
  laggard_socket_record r{};
  r.cookie = 2, r.mono_ns = 3, r.owner_start_ns = 5, r.cgroup_id = 7, r.inode = 11;
  set_address(r.local, {10, 0, 0, 7});
  set_address(r.peer, {10, 0, 0, 9});
  r.local_port = 52'114, r.peer_port = 17'725;
  r.family = AF_INET, r.protocol = IPPROTO_TCP, r.state = 8;
  r.netns = 4026531840U, r.owner_tgid = 13, r.reader_tgid = 17;
  r.unread_bytes = 19, r.rcv_nxt = 23, r.copied_seq = 29, r.rcv_window_left = 31, r.rcv_mss = 37, r.sk_rmem_alloc = 41;
  r.sk_rcvbuf = 43, r.queued_packets = 47, r.snd_una = 53, r.write_seq = 59, r.snd_wnd = 61, r.sk_ack_backlog = 67;
  r.sk_max_ack_backlog = 71, r.read_epoch = 73, r.min_unread_bytes = 79, r.max_unread_bytes = 83, r.drops = 89;
  r.rwnd_limited_ns = 97, r.bytes_received = 101, r.bytes_acked = 103, r.last_arrival_ns = 107, r.run_reads = 109;
  r.reads = 113, r.read_bytes = 127, r.closed_window_reads = 131, r.empty_reads = 137, r.last_read_ns = 139;
  r.opened_ns = 149, r.peer_closed_ns = 151, r.shutdown_ns = 157, r.run_bytes = 163;
  for (__u32 b = 0; b < LAGGARD_SIZE_BUCKETS; b++)
    r.sizes[b] = 1000 + b;
  return r;
}

model::FullSample decoded(const laggard_socket_record& record)
{
  const auto tick = decode(raw_tick(tick_record(), record));
  EXPECT_TRUE(tick);
  EXPECT_EQ(tick->sockets.size(), 1U);
  return tick->sockets.at(0);
}

TEST(Decode, EveryFieldOfASocket)
{
  const model::FullSample s = decoded(socket_record());
  EXPECT_EQ(s.cookie, 2U);
  EXPECT_EQ(s.time, mono_time(3));
  EXPECT_EQ(s.owner, (model::ProcessId{13, 5}));
  EXPECT_EQ(s.cgroup_id, 7U);
  EXPECT_EQ(s.inode, 11U);
  EXPECT_EQ(to_string(s.tuple), "10.0.0.7:52114>10.0.0.9:17725");
  EXPECT_EQ(s.transport, model::Transport::Tcp);
  EXPECT_EQ(s.state, model::TcpState::CloseWait);
  EXPECT_EQ(s.netns, 4026531840U);
  EXPECT_EQ(s.reader_tgid, 17U);
  EXPECT_EQ(s.unread_bytes, 19U);
  EXPECT_EQ(s.rcv_nxt, 23U);
  EXPECT_EQ(s.copied_seq, 29U);
  EXPECT_EQ(s.rcv_window_left, 31U);
  EXPECT_EQ(s.rcv_mss, 37U);
  EXPECT_EQ(s.rmem_bytes, 41U);
  EXPECT_EQ(s.rcvbuf_bytes, 43U);
  EXPECT_EQ(s.queued_packets, 47U);
  EXPECT_EQ(s.snd_una, 53U);
  EXPECT_EQ(s.write_seq, 59U);
  EXPECT_EQ(s.snd_wnd, 61U);
  EXPECT_EQ(s.ack_backlog, 67U);
  EXPECT_EQ(s.max_ack_backlog, 71U);
  EXPECT_EQ(s.read_epoch, 73U);
  EXPECT_EQ(s.min_unread_bytes, 79U);
  EXPECT_EQ(s.max_unread_bytes, 83U);
  EXPECT_EQ(s.drops, 89U);
  EXPECT_EQ(s.rwnd_limited, 97ns);
  EXPECT_EQ(s.bytes_received, 101U);
  EXPECT_EQ(s.bytes_acked, 103U);
  EXPECT_EQ(s.last_arrival, mono_time(107));
  EXPECT_EQ(s.run_reads, 109U);
  EXPECT_EQ(s.reads, 113U);
  EXPECT_EQ(s.read_bytes, 127U);
  EXPECT_EQ(s.closed_window_reads, 131U);
  EXPECT_EQ(s.empty_reads, 137U);
  EXPECT_EQ(s.last_read, mono_time(139));
  EXPECT_EQ(s.opened, mono_time(149));
  EXPECT_EQ(s.peer_closed_at, mono_time(151));
  EXPECT_EQ(s.shutdown_at, mono_time(157));
  EXPECT_EQ(s.run_bytes, 163U);
  for (std::uint32_t b = 0; b < model::kSizeBuckets; b++)
    EXPECT_EQ(s.sizes[b], 1000 + b);
}

TEST(Decode, EachFlagIsItsOwn)
{
  const std::pair<__u32, bool model::SocketSample::*> flags[] = {
      {LAGGARD_F_SEEDED, &model::SocketSample::older_than_observer}, {LAGGARD_F_ACCEPTED, &model::SocketSample::accepted},
      {LAGGARD_F_CONNECTED, &model::SocketSample::connected},        {LAGGARD_F_EOF_SEEN, &model::SocketSample::eof_seen},
      {LAGGARD_F_EOF_EATEN, &model::SocketSample::eof_eaten},        {LAGGARD_F_HAS_FILE, &model::SocketSample::has_file},
      {LAGGARD_F_UNACCEPTED, &model::SocketSample::unaccepted},
      {LAGGARD_F_SOCK_DONE, &model::SocketSample::peer_closed}};
  for (const auto& [flag, member] : flags) {
    laggard_socket_record record = socket_record();
    record.flags = flag;
    const model::SocketSample sample = decoded(record);
    for (const auto& [other, other_member] : flags)
      EXPECT_EQ(sample.*other_member, other == flag) << flag << " " << other;
  }
}

TEST(Decode, AbsenceIsNotZero)
{
  laggard_socket_record record = socket_record();
  record.min_unread_bytes = LAGGARD_UNKNOWN_U32;
  EXPECT_EQ(decoded(record).min_unread_bytes, std::nullopt);
  record.min_unread_bytes = 0;
  EXPECT_EQ(decoded(record).min_unread_bytes, 0U);
  record.read_epoch = 0;  // never read: the minimum of no epoch
  EXPECT_EQ(decoded(record).min_unread_bytes, std::nullopt);
  record.last_read_ns = record.opened_ns = record.peer_closed_ns = record.shutdown_ns = record.last_arrival_ns = 0;
  const model::SocketSample sample = decoded(record);
  for (const MonoTime time : {sample.last_read, sample.opened, sample.peer_closed_at, sample.shutdown_at, sample.last_arrival})
    EXPECT_FALSE(known(time));
}

TEST(Decode, MappedIpv4IsIpv4AndNothingElseIs)
{
  laggard_socket_record record = socket_record();
  record.family = AF_INET6;
  set_address(record.local, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7});
  set_address(record.peer, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  EXPECT_EQ(to_string(decoded(record).tuple), "10.0.0.7:52114>[2001:db8::1]:17725");
  EXPECT_FALSE(decoded(record).tuple.local.address.is_ipv6);
  set_address(record.local, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 10, 0, 0, 7});
  EXPECT_TRUE(decoded(record).tuple.local.address.is_ipv6);
  set_address(record.local, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(to_string(decoded(record).tuple.local.address), "*");
  record.protocol = IPPROTO_UDP;
  EXPECT_EQ(decoded(record).transport, model::Transport::Udp);
}

TEST(Decode, PositionsAreTakenAsTheyAreAlsoBeyondTheWrap)
{
  laggard_socket_record record = socket_record();
  record.copied_seq = 0xfffffff0U;
  record.rcv_nxt = 0x10;
  const model::SocketSample sample = decoded(record);
  EXPECT_EQ(sample.rcv_nxt - sample.copied_seq, 0x20U);
}

TEST(Decode, EveryFieldOfTheOthers)
{
  laggard_gone_record gone{};
  gone.cookie = 2;
  laggard_holder_record holder{};
  holder.cookie = 3, holder.start_ns = 5, holder.tgid = 7, holder.fd = 11;
  laggard_process_record process{};
  process.start_ns = 13, process.cgroup_id = 17, process.tgid = 19, process.vpid = 23, process.uid = 29;
  process.rss_error_pages = 31, process.anon_pages = 37, process.swap_pages = 41, process.shmem_pages = 43;
  process.read_bytes = 47;
  std::memcpy(process.comm, "sixteen letters!", 16);  // not terminated
  const auto tick = decode(raw_tick(tick_record(), gone, holder, process));
  ASSERT_TRUE(tick);
  EXPECT_EQ(tick->gone, std::vector<std::uint64_t>{2});
  ASSERT_EQ(tick->holders.size(), 1U);
  EXPECT_EQ(tick->holders[0].cookie, 3U);
  EXPECT_EQ(tick->holders[0].process, (model::ProcessId{7, 5}));
  EXPECT_EQ(tick->holders[0].fd, 11U);
  ASSERT_EQ(tick->processes.size(), 1U);
  const model::ProcessSample& sample = tick->processes[0];
  EXPECT_EQ(sample.id, (model::ProcessId{19, 13}));
  EXPECT_EQ(sample.cgroup_id, 17U);
  EXPECT_EQ(sample.vpid, 23U);
  EXPECT_EQ(sample.uid, 29U);
  EXPECT_EQ(sample.error_bytes, 31U * 4096);
  EXPECT_EQ(sample.anon_bytes, 37U * 4096);
  EXPECT_EQ(sample.swap_bytes, 41U * 4096);
  EXPECT_EQ(sample.shmem_bytes, 43U * 4096);
  EXPECT_EQ(sample.read_bytes, 47U);
  EXPECT_EQ(sample.comm, "sixteen letters!");
}

TEST(Decode, ALongerRecordIsFromANewerWriterAndItsTailIsIgnored)
{
  RawTick raw;
  append(raw, tick_record(), sizeof(laggard_tick_record) + 8);
  append(raw, socket_record(), sizeof(laggard_socket_record) + 64);
  append(raw, laggard_gone_record{{}, 77, 0}, sizeof(laggard_gone_record) + 16);
  const auto tick = decode(raw);
  ASSERT_TRUE(tick);
  EXPECT_EQ(tick->sockets.at(0).sizes.back(), 1020U);
  EXPECT_EQ(tick->gone.at(0), 77U);
}

TEST(Decode, AShorterRecordIsFromAnOlderWriterAndItsMissingTailIsAbsent)
{
  RawTick raw;
  laggard_tick_record head = tick_record();
  laggard_socket_record socket = socket_record();
  head.host_shmem_bytes = 17, head.skipped_runs = 19, socket.last_ack_ns = 23, socket.leftover_bytes = 29;
  append(raw, head, offsetof(laggard_tick_record, skipped_runs));
  append(raw, socket, offsetof(laggard_socket_record, last_ack_ns));
  const auto tick = decode(raw);
  ASSERT_TRUE(tick);
  EXPECT_EQ(tick->host_shmem_bytes, 17U);
  EXPECT_EQ(tick->lost.skipped_runs, 0U);
  EXPECT_EQ(tick->sockets.at(0).empty_reads, 137U);
  EXPECT_EQ(tick->sockets.at(0).sizes.back(), 1020U);
  EXPECT_FALSE(known(tick->sockets.at(0).last_ack));
  EXPECT_EQ(tick->sockets.at(0).leftover_bytes, 0U);
}

template <class Record>
void expect_least(const char* name, std::size_t first_bytes)
{
  const bool is_tick = kind_of(Record{}) == LAGGARD_RECORD_TICK;
  for (std::size_t size = 8; size <= sizeof(Record) + 8; size += 8) {
    RawTick raw = is_tick ? RawTick{} : raw_tick(tick_record());
    append(raw, Record{}, size);
    const auto tick = decode(raw);
    ASSERT_EQ(tick.has_value(), size >= first_bytes) << name << " " << size;
    if (!tick) {
      EXPECT_THAT(tick.error().message(), AllOf(HasSubstr(std::string(name) + " record at offset "), HasSubstr("has " + std::to_string(size)),
                                                HasSubstr(std::to_string(first_bytes) + " is the least that any version wrote")));
    }
  }
}

// Else a few bytes become a sample of some hundred.
TEST(Decode, ARecordShorterThanTheFirstVersionOfItsKindIsAnError)
{
#define LAGGARD_EXPECT_LEAST(name, number, type, first_bytes) expect_least<type>(#name, first_bytes);
  LAGGARD_RECORD_KINDS(LAGGARD_EXPECT_LEAST)
#undef LAGGARD_EXPECT_LEAST
}

TEST(Decode, AnUnknownKindIsSkipped)
{
  RawTick raw = raw_tick(tick_record());
  laggard_record_header unknown{999, 24, 0};
  raw.resize(raw.size() + 24);
  std::memcpy(raw.data() + raw.size() - 24, &unknown, sizeof unknown);
  append(raw, laggard_gone_record{{}, 77, 0});
  const auto tick = decode(raw);
  ASSERT_TRUE(tick);
  EXPECT_EQ(tick->gone.at(0), 77U);
}

TEST(Decode, ACutAnywhereIsAnErrorUnlessItIsBetweenTwoRecords)
{
  const RawTick raw = raw_tick(tick_record(), laggard_gone_record{}, laggard_holder_record{});
  const std::size_t first = sizeof(laggard_tick_record), second = first + sizeof(laggard_gone_record);
  for (std::size_t length = 0; length <= raw.size(); length++) {
    const bool whole = length == first || length == second || length == raw.size();
    EXPECT_EQ(decode(std::span(raw).first(length)).has_value(), whole) << length;
  }
}

TEST(Decode, ARecordThatClaimsLessThanItsHeaderIsAnError)
{
  for (__u16 size = 0; size < sizeof(laggard_record_header); size++) {
    RawTick raw = raw_tick(tick_record(), laggard_gone_record{});
    std::memcpy(raw.data() + sizeof(laggard_tick_record) + offsetof(laggard_record_header, size), &size, sizeof size);
    const auto tick = decode(raw);
    ASSERT_FALSE(tick) << size;
    EXPECT_THAT(tick.error().message(), HasSubstr("claims"));
  }
}

TEST(Decode, TimesBeyondReasonAreBoundedSoThatNothingComputedFromThemOverflows)
{
  laggard_tick_record tick = tick_record();
  tick.mono_ns = tick.realtime_ns = tick.boottime_ns = tick.sweep_period_ns = ~0ULL;
  laggard_socket_record socket = socket_record();
  socket.mono_ns = socket.last_read_ns = socket.owner_start_ns = socket.rwnd_limited_ns = ~0ULL;
  const auto result = decode(raw_tick(tick, socket));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->time.time_since_epoch().count(), 1LL << 60);
  EXPECT_EQ(result->wall_time.time_since_epoch().count(), 1LL << 62);
  EXPECT_EQ(result->sockets.at(0).time, result->time);
  EXPECT_EQ(result->sockets.at(0).owner.start_ns, 1ULL << 60);
}

TEST(Decode, ATickBeginsWithItsOneTickRecord)
{
  EXPECT_FALSE(decode(raw_tick(laggard_gone_record{})));
  EXPECT_FALSE(decode(raw_tick(laggard_gone_record{}, tick_record())));
  EXPECT_FALSE(decode(raw_tick(tick_record(), tick_record())));
}

laggard_pair_record pair_record()
{
  laggard_pair_record record{};
  record.header = {LAGGARD_RECORD_PAIR, sizeof record, 1};
  record.tgid = 29, record.start_ns = 2, record.mono_ns = 3, record.begun = 5498, record.ended = 5475, record.unmatched = 5, record.lost = 7;
  record.outstanding = 23, record.oldest_begin_ns = 11, record.last_end_ns = 13, record.slowest_ns = 17, record.unreadable = 19;
  record.overtaken[0] = 20, record.overtaken[31] = 2, record.waiting[1] = 1, record.stack_count = 22;
  record.refused = 41, record.last_matched_ns = 12, record.flags = LAGGARD_PAIR_TELLS_SEEN | LAGGARD_PAIR_BEGIN_SEEN | LAGGARD_PAIR_EACH;
  std::memcpy(record.what, "sends", 5);
  std::memset(record.advice, 'y', sizeof record.advice);
  std::memcpy(record.name, "send", 4);
  std::memset(record.stack, 'x', sizeof record.stack);
  return record;
}

TEST(Decode, PairsOfOperations)
{
  const auto tick = decode(raw_tick(tick_record(), pair_record()));
  ASSERT_TRUE(tick);
  ASSERT_EQ(tick->pairs.size(), 1U);
  const model::PairSample& sample = tick->pairs[0];
  EXPECT_EQ(sample.process, (model::ProcessId{29, 2}));
  EXPECT_EQ(sample.name, "send");
  EXPECT_EQ(sample.begun - sample.ended, sample.outstanding);
  EXPECT_EQ(sample.unmatched, 5U);
  EXPECT_EQ(sample.lost, 7U);
  EXPECT_EQ(sample.time - sample.oldest_begin, -8ns);  // of a damaged recording
  EXPECT_EQ(sample.slowest, 17ns);
  EXPECT_EQ(sample.unreadable, 19U);
  EXPECT_EQ(sample.overtaken[0], 20U);
  EXPECT_EQ(sample.overtaken[31], 2U);
  EXPECT_EQ(sample.waiting[1], 1U);
  EXPECT_EQ(sample.stack.size(), sizeof(laggard_pair_record::stack));  // no end in sight is no overrun
  EXPECT_EQ(sample.stack_count, 22U);
  EXPECT_EQ(sample.refused, 41U);
  EXPECT_EQ(sample.last_match, MonoTime{12ns});
  EXPECT_TRUE(sample.begin_seen);
  EXPECT_FALSE(sample.end_seen);
  EXPECT_TRUE(sample.each);
  EXPECT_EQ(sample.what, "sends");
  EXPECT_EQ(sample.advice.size(), sizeof(laggard_pair_record::advice));
}

// Nobody told whether both ends were reached, and what ended had begun.
TEST(Decode, PairsOfOlderRecordings)
{
  std::vector<std::byte> raw;
  append(raw, tick_record(), sizeof(laggard_tick_record));
  append(raw, pair_record(), offsetof(laggard_pair_record, refused));
  const auto tick = decode(raw);
  ASSERT_TRUE(tick);
  const model::PairSample& sample = tick->pairs.at(0);
  EXPECT_TRUE(sample.begin_seen && sample.end_seen);
  EXPECT_FALSE(sample.each);
  EXPECT_EQ(sample.last_match, sample.last_end);
  EXPECT_EQ(sample.what, "");
}

TEST(Decode, WhereAProcessRuns)
{
  laggard_workload_record record{};
  record.tgid = 29, record.start_ns = 31, record.cgroup_id = 37;
  std::memset(record.container_id, 'c', sizeof record.container_id);  // all of it, and no 0 at its end
  std::memcpy(record.container_runtime_name, "cri-o", 5);
  std::memcpy(record.k8s_namespace_name, "shop", 4);
  std::memcpy(record.k8s_pod_name, "cart-0", 6);
  std::memcpy(record.k8s_pod_uid, "0f1e", 4);
  std::memcpy(record.k8s_container_name, "web", 3);
  std::memcpy(record.systemd_unit, "nginx.service", 13);
  const auto tick = decode(raw_tick(tick_record(), record));
  ASSERT_TRUE(tick);
  ASSERT_EQ(tick->workloads.size(), 1U);
  const model::WorkloadSample& sample = tick->workloads[0];
  EXPECT_EQ(sample.process, (model::ProcessId{29, 31}));
  EXPECT_EQ(sample.cgroup_id, 37U);
  EXPECT_EQ(sample.workload, (model::Workload{std::string(64, 'c'), "cri-o", "shop", "cart-0", "0f1e", "web", "nginx.service", ""}));
}

}  // namespace
}  // namespace laggard::source
