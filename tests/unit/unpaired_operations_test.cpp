// SPDX-License-Identifier: MIT
// unpaired-operations (DESIGN 5.5), clause by clause, on what the probes would tell of a program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "detect/unpaired_operations.h"
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
using testing::Not;
using testing::SizeIs;

// A program that begins operations; tells of them as source/live/pair_probe.cpp does.
class Program {
 public:
  explicit Program(const std::string& pair = "send") : process_(scene.process(17, "sender")), pair_(pair)
  {
    scene.alter = [this](model::Tick& tick) { step(tick); };
  }

  // Operations per second; those of which never end; how long the others take.
  double begins = 100;
  double lost = 0;
  Duration takes = 10ms;
  bool paused = false;  // nothing ends, for now
  std::string stack = "foo_send\npublish\nmain";
  bool is_told = true;
  double reads_per_second = 0;  // bytes
  bool by_connection = false;
  bool end_seen = true;
  bool each = false;
  std::string what;
  Scene scene;
  void grows()
  {
    process_.uses_sockets = true;
    process_.anon_bytes = [](double t) { return 10e6 + 2e6 * t; };
  }

 private:
  struct Operation {
    MonoTime begin;
    bool lost;
  };

  void step(model::Tick& tick)
  {
    const MonoTime now = tick.time;
    if (!known(before_))
      before_ = now - 1s;
    for (MonoTime at = before_; at < now && begins > 0; at = at + Duration{static_cast<long>(1e9 / begins)}) {
      to_lose_ += lost / begins;
      const bool is_lost = to_lose_ >= 1;
      if (is_lost)
        to_lose_ -= 1;
      operations_.push_back({at, is_lost});
      sample_.begun++;
    }
    before_ = now;
    std::erase_if(operations_, [&](const Operation& operation) {
      if (operation.lost || paused || operation.begin + takes > now)
        return false;
      sample_.ended++;
      sample_.last_end = sample_.last_match = now;
      last_ended_begin_ = std::max(last_ended_begin_, operation.begin);
      sample_.slowest = std::max(sample_.slowest, paused_since_end_ ? now - operation.begin : takes);
      return true;
    });
    paused_since_end_ = paused;
    process_.read_bytes += static_cast<std::uint64_t>(reads_per_second);
    sample_.end_seen = end_seen;
    sample_.by_connection = by_connection;
    if (!is_told)
      return;
    sample_.each = each;
    sample_.what = what;
    sample_.process = process_.id;
    sample_.name = pair_;
    sample_.time = now;
    sample_.outstanding = operations_.size();
    sample_.overtaken = {};
    sample_.waiting = {};
    if (!operations_.empty()) {
      sample_.oldest_begin = operations_.front().begin;
      for (const Operation& operation : operations_) {
        const double halves = 2 * std::log2(std::max(seconds(now - operation.begin), 1e-9) / seconds(model::kPairAge));
        const auto bucket = static_cast<std::size_t>(std::clamp(halves, 0.0, model::kPairAges - 1.0));
        (operation.begin < last_ended_begin_ ? sample_.overtaken : sample_.waiting)[bucket]++;
      }
    }
    sample_.stack = stack;
    sample_.stack_count = static_cast<std::uint32_t>(operations_.size());
    tick.pairs.push_back(sample_);
  }

  SceneProcess& process_;
  std::string pair_;
  model::PairSample sample_;
  std::deque<Operation> operations_;
  MonoTime before_, last_ended_begin_;
  double to_lose_ = 0;
  bool paused_since_end_ = false;
};

std::vector<Finding> found(Program& program) { return program.scene.opened(Kind::UnpairedOperations); }

TEST(UnpairedOperations, WhatIsLostNowAndThenIsFoundInFourTimesTheAge)
{
  Program program;
  program.lost = 0.5;
  program.scene.run(80s);
  EXPECT_THAT(found(program), IsEmpty());
  program.scene.run(60s);
  ASSERT_THAT(found(program), SizeIs(1));
  const Finding finding = found(program)[0];
  EXPECT_EQ(finding.process.comm, "sender");
  EXPECT_FALSE(finding.socket);
  EXPECT_GE(evidence(finding, "stuck"), 10);
  EXPECT_NEAR(evidence(finding, "begun") - evidence(finding, "ended"), evidence(finding, "outstanding"), 0);
  EXPECT_GE(evidence(finding, "oldest_seconds"), 90);
  EXPECT_THAT(finding.message, HasSubstr("'send' were begun and never completed"));
  EXPECT_EQ(finding.severity, Severity::Warning);
}

TEST(UnpairedOperations, NothingIsSaidWhereAllEnd)
{
  Program program;
  program.takes = 400ms;
  program.scene.run(5min);
  EXPECT_THAT(program.scene.findings(), IsEmpty());
}

TEST(UnpairedOperations, FewerThanTheCountAreNotWorthAWord)
{
  Program program;
  program.lost = 0.02;  // 6 in 5 minutes
  program.scene.run(5min);
  EXPECT_THAT(program.scene.findings(), IsEmpty());
}

TEST(UnpairedOperations, APeerThatPausesIsNoLeak)
{
  for (const Duration pause : {5s, 40s, 100s}) {
    Program program;
    program.scene.run(60s);
    program.paused = true;
    program.scene.run(pause);
    program.paused = false;
    program.scene.run(5min);
    EXPECT_THAT(program.scene.findings(), IsEmpty()) << pause.count();
  }
}

TEST(UnpairedOperations, ABurstThatIsLostDoesNotGoOn)
{
  Program program;
  program.scene.run(20s);
  program.lost = 20;
  program.scene.run(5s);
  program.lost = 0;
  program.scene.run(5min);
  EXPECT_THAT(program.scene.findings(), IsEmpty());
}

TEST(UnpairedOperations, SlowOnesThatEndTeachPatience)
{
  Program program;  // long polls of a minute
  program.begins = 2;
  program.takes = 60s;
  program.scene.run(15min);
  EXPECT_THAT(program.scene.findings(), IsEmpty());
}

// Nothing was overtaken: a peer that pauses looks the same.
TEST(UnpairedOperations, WhatNothingOvertookWaitsForASecondSign)
{
  Program program;
  program.scene.run(60s);
  program.paused = true;
  program.scene.run(5min);
  EXPECT_THAT(found(program), IsEmpty());
}

TEST(UnpairedOperations, MemoryThatGrowsIsASecondSign)
{
  Program program;
  program.scene.run(60s);
  program.paused = true;
  program.grows();
  program.scene.run(110s);
  EXPECT_THAT(found(program), IsEmpty());
  program.scene.run(60s);
  EXPECT_THAT(found(program), SizeIs(1));
}

// Each request is answered, and none is ever completed.
TEST(UnpairedOperations, AnswersThatAreReadAreASecondSign)
{
  Program program;
  program.begins = 2;
  program.lost = 2;
  program.reads_per_second = 600;
  program.scene.run(3min);
  EXPECT_THAT(found(program), SizeIs(1));
}

TEST(UnpairedOperations, AHeartbeatMeanwhileIsNoAnswer)
{
  Program program;
  program.scene.run(60s);
  program.paused = true;
  program.reads_per_second = 20;
  program.scene.run(5min);
  EXPECT_THAT(found(program), IsEmpty());
}

// A client that learns of its streams' ends in a way of its own.
TEST(UnpairedOperations, AnswersAreNoSignWhereNoConnectionEverEndedAny)
{
  Program program;
  program.begins = 2;
  program.lost = 2;
  program.reads_per_second = 600;
  program.by_connection = true;
  program.scene.run(5min);
  EXPECT_THAT(found(program), IsEmpty());
}

TEST(UnpairedOperations, WhereAnEndIsNeverReachedNobodyIsAccused)
{
  Program program;
  program.begins = 2;
  program.lost = 2;
  program.end_seen = false;
  program.grows();
  program.scene.run(20s);
  const detect::Thresholds limits;
  EXPECT_EQ(detect::half_seen(limits, program.scene.model().pairs().begin()->second.latest), "");
  program.scene.run(10min);
  EXPECT_THAT(found(program), IsEmpty());
  EXPECT_THAT(detect::half_seen(limits, program.scene.model().pairs().begin()->second.latest),
              testing::AllOf(HasSubstr("pair 'send' in process 17"), HasSubstr("no end was reached once")));
}

TEST(UnpairedOperations, WhereABeginIsNeverReachedThatIsSaid)
{
  model::PairSample sample;
  sample.name = "send";
  sample.unmatched = 99;
  sample.begin_seen = false;
  EXPECT_EQ(detect::half_seen({}, sample), "");
  sample.unmatched = 100;
  EXPECT_THAT(detect::half_seen({}, sample), HasSubstr("100 were completed, and no begin was reached once"));
  sample.begin_seen = true;
  EXPECT_EQ(detect::half_seen({}, sample), "");
}

TEST(UnpairedOperations, OneIsEnoughWhereEachCounts)
{
  Program program;
  program.each = true;
  program.what = "reads that left something behind";
  program.begins = 1;
  program.takes = 5s;
  program.scene.run(60s);
  EXPECT_THAT(found(program), IsEmpty());
  program.lost = 1;
  program.scene.run(1s);
  program.begins = program.lost = 0;
  program.scene.run(10s);
  EXPECT_THAT(found(program), IsEmpty());
  program.scene.run(4s);
  ASSERT_THAT(found(program), SizeIs(1));
  EXPECT_THAT(found(program)[0].message, HasSubstr("1 reads that left something behind, the oldest for 1"));
}

TEST(UnpairedOperations, ItStaysOpenWhileHalfAreThereAndTellsTheLatestAtTheEnd)
{
  Program program;
  program.lost = 0.5;
  program.scene.run(140s);
  ASSERT_THAT(found(program), SizeIs(1));
  program.lost = 0;
  program.scene.run(5min);
  EXPECT_THAT(program.scene.lines(Phase::Resolved), IsEmpty());
  const double outstanding = evidence(program.scene.findings().back(), "outstanding");
  EXPECT_GE(outstanding, 60);
  program.is_told = false;  // its probes are detached
  program.scene.run(60s);
  ASSERT_THAT(program.scene.lines(Phase::Resolved), SizeIs(1));
  EXPECT_EQ(evidence(program.scene.lines(Phase::Resolved)[0], "outstanding"), outstanding);
}

TEST(UnpairedOperations, TenTimesTheCountIsCritical)
{
  Program program;
  program.lost = 5;
  program.scene.run(3min);
  EXPECT_EQ(program.scene.lines(Phase::Updated).back().severity, Severity::Critical);
}

TEST(UnpairedOperations, NamesOfAProgramReachNoTerminalAsCommands)
{
  Program program{"se\x1b[2Jnd"};
  program.stack = "foo\x1b]0;owned\x07\nbar\xff";
  program.lost = 0.5;
  program.scene.run(140s);
  ASSERT_THAT(found(program), SizeIs(1));
  const Finding finding = found(program)[0];
  for (const std::string& line : finding.details)
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
  EXPECT_THAT(finding.message, Not(HasSubstr("\x1b")));
  EXPECT_EQ(std::get<std::string>(std::ranges::find(finding.evidence, "stack", &detect::Field::name)->value), "foo?]0;owned? < bar?");
}

}  // namespace
}  // namespace laggard::test
