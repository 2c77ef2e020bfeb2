// SPDX-License-Identifier: MIT
// What must hold whatever is recorded: a hole in a recording is never "nothing found", and the order of the records within
// a tick means nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <utility>

#include "replay/recorded.h"
#include "support/scene.h"
#include "support/wire.h"

namespace laggard::test {
namespace {

using source::RawTick;

constexpr __u64 kSecond = 1'000'000'000;

// A socket that nobody reads, and one that is drained, for half a minute.
Recorded made_by_wire()
{
  Recorded recorded;
  recorded.name = "wire";
  for (__u32 second = 0; second < 30; second++) {
    laggard_tick_record tick{};
    tick.header.epoch = 2 + second;
    tick.mono_ns = (1000 + second) * kSecond + 7;
    tick.realtime_ns = 1'700'000'000 * kSecond + tick.mono_ns;
    tick.boottime_ns = tick.mono_ns;
    tick.page_bytes = 4096;
    tick.coverage = LAGGARD_COVERS_SWEEP | LAGGARD_COVERS_HOLDERS | LAGGARD_COVERS_PROCESSES;
    laggard_socket_record stuck{};
    stuck.header.epoch = tick.header.epoch;
    stuck.cookie = 11, stuck.mono_ns = tick.mono_ns - 5, stuck.opened_ns = 1000 * kSecond, stuck.family = AF_INET;
    stuck.protocol = IPPROTO_TCP, stuck.state = 1, stuck.flags = LAGGARD_F_HAS_FILE | LAGGARD_F_CONNECTED, stuck.inode = 13;
    stuck.local[0] = 10, stuck.local_port = 40'009, stuck.peer[0] = 10, stuck.peer_port = 80, stuck.owner_tgid = 17;
    stuck.owner_start_ns = 19, stuck.unread_bytes = 50'021, stuck.rcv_nxt = 50'021, stuck.rcv_window_left = 9973;
    stuck.rcv_mss = 1448, stuck.min_unread_bytes = LAGGARD_UNKNOWN_U32;
    laggard_socket_record busy = stuck;  // announced, and swept a moment later
    busy.cookie = 23, busy.local_port = 40'013, busy.reads = busy.empty_reads = second, busy.read_epoch = second + 1;
    busy.rcv_nxt = second * 7919, busy.copied_seq = busy.rcv_nxt, busy.unread_bytes = 0, busy.min_unread_bytes = 0;
    busy.last_read_ns = tick.mono_ns - 500'000'000, busy.mono_ns = busy.last_read_ns;
    laggard_socket_record swept = busy;
    swept.mono_ns = tick.mono_ns - 3, swept.read_epoch++, swept.rcv_nxt += 4001, swept.unread_bytes = 4001;
    swept.min_unread_bytes = 4001;
    laggard_holder_record holder{};
    holder.cookie = 11, holder.tgid = 17, holder.start_ns = 19;
    laggard_holder_record other = holder;
    other.cookie = 23;
    laggard_process_record process{};
    process.tgid = process.vpid = 17, process.start_ns = 19, process.anon_pages = 1009;
    std::memcpy(process.comm, "wired", 5);
    recorded.ticks.push_back(raw_tick(tick, busy, stuck, swept, holder, other, process));
  }
  return recorded;
}

// The same, and its process grows by 1 MiB a second in a kernel that could have told with what.
Recorded made_by_growing()
{
  Recorded recorded = made_by_wire();
  for (std::size_t second = 0; second < recorded.ticks.size(); second++) {
    std::vector<RawTick> records = records_of(recorded.ticks[second]);
    laggard_tick_record tick{};
    std::memcpy(&tick, records.front().data(), sizeof tick);
    tick.coverage |= LAGGARD_CAN_ATTRIBUTE;
    std::memcpy(records.front().data(), &tick, sizeof tick);
    laggard_process_record process{};
    std::memcpy(&process, records.back().data(), sizeof process);
    process.anon_pages += second * 256;
    std::memcpy(records.back().data(), &process, sizeof process);
    recorded.ticks[second] = joined(records);
  }
  return recorded;
}

Recorded recorded_of(const std::string& name)
{
  if (name == "wire")
    return made_by_wire();
  return load(std::string(LAGGARD_SOURCE_DIR "/tests/replay/") + name + ".laggard");
}

void set_losses(RawTick& raw, __u64 lost)
{
  std::memcpy(raw.data() + offsetof(laggard_tick_record, lost), &lost, sizeof lost);
}

// As if `lost` records had been lost in the middle of it.
Recorded with_losses(Recorded recorded, __u64 lost)
{
  for (std::size_t i = recorded.ticks.size() / 2; i < recorded.ticks.size(); i++)
    set_losses(recorded.ticks[i], lost);
  return recorded;
}

TEST(Replay, ASuspectThatTheRecordingDoesNotKnowOfIsSaid)
{
  const Recorded recorded = made_by_growing();
  const Said as_recorded = replay_file(recorded, options_of(recorded));
  EXPECT_FALSE(as_recorded.incomplete);
  const Said said = replay_file(recorded, options_of(recorded, {"--memory-window", "5s", "--memory-growth", "2MiB"}));
  EXPECT_TRUE(said.incomplete);
  EXPECT_EQ(said.exit_code, cli::kIncomplete);
  EXPECT_THAT(said.lines, testing::HasSubstr("the memory of process 17 grows, but the recording does not tell with what"));
}

class Property : public testing::TestWithParam<std::string> {};

TEST_P(Property, AWholeRecordingIsComplete)
{
  const Recorded recorded = recorded_of(GetParam());
  const Said said = say(recorded, options_of(recorded));
  EXPECT_FALSE(said.incomplete);
  EXPECT_EQ(said.exit_code, cli::kObserved);
  EXPECT_FALSE(replay_file(recorded, options_of(recorded)).incomplete);
}

TEST_P(Property, WithoutAnyOneTickOfItsMiddleItIsIncomplete)
{
  const Recorded whole = recorded_of(GetParam());
  const cli::Options options = options_of(whole);
  for (std::size_t dropped = 1; dropped + 1 < whole.ticks.size(); dropped++) {
    Recorded recorded = whole;
    recorded.ticks.erase(recorded.ticks.begin() + static_cast<std::ptrdiff_t>(dropped));
    const Said said = say(recorded, options);
    ASSERT_TRUE(said.incomplete) << "tick " << dropped;
    ASSERT_EQ(said.exit_code, cli::kIncomplete) << "tick " << dropped;
  }
}

TEST_P(Property, WithATickThatCannotBeDecodedItIsIncompleteWhereverThatIs)
{
  const Recorded whole = recorded_of(GetParam());
  const cli::Options options = options_of(whole);
  for (std::size_t spoilt = 0; spoilt < whole.ticks.size(); spoilt++) {
    Recorded recorded = whole;
    std::vector<RawTick> records = records_of(recorded.ticks[spoilt]);
    records.erase(records.begin());  // the TICK record
    recorded.ticks[spoilt] = joined(records);
    const Said said = say(recorded, options);
    ASSERT_TRUE(said.incomplete) << "tick " << spoilt;
    ASSERT_EQ(said.exit_code, cli::kIncomplete) << "tick " << spoilt;
  }
}

TEST_P(Property, LossesBeyondTheLimitStayIncompleteWhateverElseIsMissing)
{
  const Recorded whole = with_losses(recorded_of(GetParam()), 1001);
  const cli::Options options = options_of(whole);
  EXPECT_TRUE(say(whole, options).incomplete);
  std::mt19937 random{1};
  for (int i = 0; i < 300; i++) {
    Recorded recorded = whole;
    // One to three of its records, TICK records too, and now and then a tick; the last tick's TICK record stays whole.
    for (std::size_t n = 1 + random() % 3; n > 0; n--) {
      RawTick& raw = recorded.ticks[random() % (recorded.ticks.size() - 1)];
      std::vector<RawTick> records = records_of(raw);
      if (records.empty())
        continue;
      records.erase(records.begin() + static_cast<std::ptrdiff_t>(random() % records.size()));
      raw = joined(records);
    }
    if (random() % 4 == 0)
      recorded.ticks.erase(recorded.ticks.begin() + static_cast<std::ptrdiff_t>(random() % (recorded.ticks.size() - 1)));
    const Said said = say(recorded, options);
    ASSERT_TRUE(said.incomplete) << i;
    ASSERT_EQ(said.exit_code, cli::kIncomplete) << i;
  }
  // At the limit it is not yet.
  EXPECT_FALSE(say(with_losses(recorded_of(GetParam()), 1000), options).incomplete);
}

// One record at a time, each kind at each place: no single one carries the knowledge that something is missing.
TEST_P(Property, NoSingleRecordMakesAnIncompleteRecordingComplete)
{
  const Recorded lossy = with_losses(recorded_of(GetParam()), 1001);
  Recorded holey = recorded_of(GetParam());
  holey.ticks.erase(holey.ticks.begin() + static_cast<std::ptrdiff_t>(holey.ticks.size() / 2));
  const cli::Options options = options_of(lossy);
  for (const Recorded* whole : {&lossy, &std::as_const(holey)}) {
    std::vector<std::pair<std::size_t, std::size_t>> places;  // tick, record
    for (std::size_t tick = 0; tick < whole->ticks.size(); tick++)
      for (std::size_t record = records_of(whole->ticks[tick]).size(); record-- > 1;)
        places.emplace_back(tick, record);
    const std::size_t step = std::max<std::size_t>(1, places.size() / 150);
    for (std::size_t i = 0; i < places.size(); i += step) {
      const auto [tick, record] = places[i];
      Recorded recorded = *whole;
      std::vector<RawTick> records = records_of(recorded.ticks[tick]);
      records.erase(records.begin() + static_cast<std::ptrdiff_t>(record));
      recorded.ticks[tick] = joined(records);
      const Said said = say(recorded, options);
      ASSERT_TRUE(said.incomplete) << "tick " << tick << " record " << record;
      ASSERT_EQ(said.exit_code, cli::kIncomplete) << "tick " << tick << " record " << record;
    }
  }
}

// A record that says less or more than it holds spoils its tick, and with it the recording.
TEST_P(Property, WithARecordThatIsCutItIsIncomplete)
{
  const Recorded whole = recorded_of(GetParam());
  const cli::Options options = options_of(whole);
  std::mt19937 random{3};
  for (int i = 0; i < 100; i++) {
    Recorded recorded = whole;
    RawTick& raw = recorded.ticks[random() % recorded.ticks.size()];
    std::size_t kept = random() % raw.size();
    for (std::size_t end = 0; const RawTick& record : records_of(raw))
      if ((end += record.size()) == kept)
        kept--;  // between two records it would be a tick with fewer of them
    raw.resize(kept);
    const Said said = say(recorded, options);
    ASSERT_TRUE(said.incomplete) << i << " " << kept;
    ASSERT_EQ(said.exit_code, cli::kIncomplete) << i << " " << kept;
  }
}

// --fail-on answers with 1 where there are findings: the summary must still say that there may be more.
TEST_P(Property, FindingsDoNotHideThatMoreMayBeMissing)
{
  const Recorded recorded = with_losses(recorded_of(GetParam()), 1001);
  const cli::Options options = options_of(recorded, {"--fail-on", "warning"});
  const Said said = say(recorded, options);
  EXPECT_TRUE(said.incomplete);
  EXPECT_EQ(said.exit_code, said.findings.empty() ? cli::kIncomplete : cli::kFindings);
}

TEST_P(Property, TheCommandSaysTheSame)
{
  const Recorded whole = recorded_of(GetParam());
  const cli::Options options = options_of(whole);
  std::vector<std::pair<std::string, Recorded>> all = {{"losses", with_losses(whole, 1001)}, {"a tick", whole}, {"a TICK", whole}, {"all", whole}};
  all[1].second.ticks.erase(all[1].second.ticks.begin() + 5);
  all[2].second.ticks.back() = joined({records_of(whole.ticks.back()).back()});
  all[3].second.ticks.clear();
  for (const auto& [what, recorded] : all) {
    const Said said = replay_file(recorded, options);
    EXPECT_EQ(said.exit_code, cli::kIncomplete) << what;
    EXPECT_TRUE(said.incomplete) << what << said.summary;
    EXPECT_THAT(said.summary, testing::Not(testing::HasSubstr("nothing found"))) << what;
  }
}

TEST_P(Property, NoOrderOfTheRecordsWithinATickChangesALine)
{
  const Recorded recorded = recorded_of(GetParam());
  const cli::Options options = options_of(recorded);
  const std::string golden = replay_file(recorded, options).lines;
  const auto without_path = [](std::string lines) {  // of the started line, which names the file
    return lines.substr(lines.find('\n'));
  };
  std::vector<std::vector<RawTick>> ticks;
  for (const RawTick& raw : recorded.ticks)
    ticks.push_back(records_of(raw));
  for (unsigned seed = 0; seed < 200; seed++) {
    std::mt19937 random{seed};
    Recorded shuffled = recorded;
    for (std::size_t i = 0; i < ticks.size(); i++) {
      std::vector<RawTick> records = ticks[i];
      if (seed == 0)
        std::reverse(records.begin() + 1, records.end());
      else
        std::shuffle(records.begin() + 1, records.end(), random);
      shuffled.ticks[i] = joined(records);
    }
    ASSERT_EQ(without_path(replay_file(shuffled, options).lines), without_path(golden)) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Recordings, Property, testing::Values("wire", "batch-reader", "eight-incidents", "slow-reader"),
                         [](const testing::TestParamInfo<std::string>& one) {
                           std::string name = one.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace laggard::test
