// SPDX-License-Identifier: MIT
// Probes in programs, on the kernel (DESIGN 5.5): exact counts of what a child of this very program begins and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sdt.h>

#include <fstream>
#include <thread>

#include "pairs_support.h"

namespace laggard::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Pairs, what_begins_and_ends_is_counted_exactly)
{
  LAGGARD_NEEDS_BPF();
  Worker older{[] {
    for (std::uint64_t key = 1; key <= 101; key++)
      laggard_test_caller(key);
    for (std::uint64_t key = 24; key <= 101; key++)
      laggard_test_end(key, 0);
    for (std::uint64_t key = 1000; key < 1005; key++)
      laggard_test_end(key, 0);
  }};
  const auto probe = open({pair()});
  EXPECT_THAT(probe->take_messages(), IsEmpty());
  older.work();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // what lasts for a second gets a name
  const model::PairSample sample = collect_of(*probe, older.pid());
  EXPECT_EQ(sample.name, "test");
  EXPECT_EQ(sample.begun, 101U);
  EXPECT_EQ(sample.ended, 78U);
  EXPECT_EQ(sample.unmatched, 5U);
  EXPECT_EQ(sample.outstanding, 23U);
  EXPECT_EQ(sample.lost, 0U);
  EXPECT_EQ(sum(sample.overtaken), 23U);
  EXPECT_EQ(sum(sample.waiting), 0U);
  EXPECT_LT(sample.oldest_begin, sample.time);
  EXPECT_GT(sample.slowest, Duration{});
  EXPECT_EQ(sample.stack_count, 23U);
  EXPECT_THAT(sample.stack, testing::StartsWith("laggard_test_begin\nlaggard_test_caller"));

  Worker younger{[] { laggard_test_begin(1, 0, 0, 0, 0); }};
  younger.work();
  EXPECT_EQ(collect_of(*probe, younger.pid()).outstanding, 1U);
  EXPECT_EQ(collect_of(*probe, older.pid()).outstanding, 23U);
}

TEST(Pairs, what_nothing_overtook_waits)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t key = 1; key <= 30; key++)
      laggard_test_begin(key, 0, 0, 0, 0);
    for (std::uint64_t key = 1; key <= 10; key++)
      laggard_test_end(key, 0);
  }};
  const auto probe = open({pair()});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sum(sample.overtaken), 0U);
  EXPECT_EQ(sum(sample.waiting), 20U);
}

TEST(Pairs, a_key_may_be_any_argument_or_what_it_points_to_or_two_of_them)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    struct {
      std::uint64_t other, key;
    } object = {7, 4711};
    laggard_test_begin(1, 2, 3, 4, 4711);
    laggard_test_end(0, reinterpret_cast<std::uint64_t>(&object));
    laggard_test_begin(1, 2, 3, 4, 4712);
    laggard_test_end(0, 8);  // points nowhere: ends nothing
  }};
  Worker two{[] {
    laggard_test_begin(1, 10, 0, 0, 0);
    laggard_test_begin(1, 20, 0, 0, 0);
    laggard_test_begin(2, 10, 0, 0, 0);
    laggard_test_end(10, 2);
  }};
  const auto probe = open({pair("deep", {argument(5)}, {{.argument = 2, .dereferenced_at = 8}}),
                           pair("two", {argument(1), argument(2)}, {argument(2), argument(1)})});
  worker.work();
  two.work();
  for (const model::PairSample& sample : collect(*probe)) {
    if (sample.process.tgid == worker.pid() && sample.name == "deep") {
      EXPECT_EQ(sample.begun, 2U);
      EXPECT_EQ(sample.ended, 1U);
      EXPECT_EQ(sample.unmatched, 0U);
    }
    if (sample.process.tgid == two.pid() && sample.name == "two") {
      EXPECT_EQ(sample.begun, 3U);
      EXPECT_EQ(sample.ended, 1U);
    }
  }
}

TEST(Pairs, several_functions_may_end_an_operation_each_with_its_own_key)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    laggard_test_begin(1, 0, 0, 0, 0);
    laggard_test_begin(2, 0, 0, 0, 0);
    laggard_test_begin(3, 0, 0, 0, 0);
    laggard_test_end(1, 0);
    laggard_test_cancel(0, 2);
  }};
  PairSpec spec = pair();
  spec.ends.push_back({"laggard_test_cancel", {argument(2)}, 6});
  const auto probe = open({spec});
  worker.work();
  EXPECT_EQ(collect_of(*probe, worker.pid()).outstanding, 1U);
}

TEST(Pairs, what_belongs_to_a_connection_ends_with_it)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t id = 0; id < 10; id++) {
      laggard_test_begin(1, id, 0, 0, 0);
      laggard_test_begin(2, id, 0, 0, 0);
    }
    laggard_test_close(1);
    laggard_test_begin(1, 99, 0, 0, 0);  // the address is used again
  }};
  PairSpec spec = pair("test", {argument(1), argument(2)}, {argument(1), argument(2)});
  spec.abandons = {{"laggard_test_close", {argument(1)}, 6}};
  const auto probe = open({spec});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sample.begun, 21U);
  EXPECT_EQ(sample.ended, 10U);
  EXPECT_EQ(sample.outstanding, 11U);
}

TEST(Pairs, a_key_that_repeats_counts_or_does_not)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (int i = 0; i < 5; i++)
      laggard_test_begin(7, 0, 0, 0, 0);
    laggard_test_end(7, 0);
  }};
  PairSpec ignores = pair("ignores");
  ignores.ignore_repeats = true;
  const auto probe = open({pair("counts"), ignores});
  worker.work();
  std::map<std::string, std::uint64_t> outstanding;
  for (const model::PairSample& sample : collect(*probe))
    if (sample.process.tgid == worker.pid())
      outstanding[sample.name] = sample.outstanding;
  EXPECT_EQ(outstanding["counts"], 4U);
  EXPECT_EQ(outstanding["ignores"], 0U);
}

TEST(Pairs, usdt_probes_have_arguments_too)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t key = 1; key <= 13; key++)
      DTRACE_PROBE2(laggard_test, begin, 0, key);
    for (std::uint64_t key = 1; key <= 6; key++)
      DTRACE_PROBE1(laggard_test, end, key);
  }};
  PairSpec spec = pair();
  spec.begins = {{"usdt:laggard_test:begin", {argument(2)}, 4}};
  spec.ends = {{"usdt:laggard_test:end", {argument(1)}, 5}};
  const auto probe = open({spec});
  EXPECT_THAT(probe->take_messages(), IsEmpty());
  worker.work();
  EXPECT_EQ(collect_of(*probe, worker.pid()).begun, 13U);
  EXPECT_EQ(collect_of(*probe, worker.pid()).outstanding, 7U);
}

TEST(Pairs, of_a_process_that_exits_nothing_stays)
{
  LAGGARD_NEEDS_BPF();
  auto worker = std::make_unique<Worker>([] { laggard_test_begin(1, 0, 0, 0, 0); });
  const auto probe = open({pair()});
  worker->work();
  EXPECT_EQ(collect_of(*probe, worker->pid()).outstanding, 1U);
  worker.reset();
  EXPECT_THAT(collect(*probe), IsEmpty());
}

TEST(Pairs, more_operations_than_there_is_room_for_are_counted_as_lost)
{
  LAGGARD_NEEDS_BPF();
  if (std::getenv("LAGGARD_LIVE_QUICK") != nullptr)
    GTEST_SKIP() << "70000 hits take minutes in an emulated machine";
  Worker worker{[] {
    for (std::uint64_t key = 1; key <= LAGGARD_MAX_OPERATIONS + 1000; key++)
      laggard_test_begin(key, 0, 0, 0, 0);
  }};
  const auto probe = open({pair()});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sample.begun, sample.outstanding);
  EXPECT_EQ(sample.begun + sample.lost, LAGGARD_MAX_OPERATIONS + 1000U);
  EXPECT_GE(sample.lost, 1000U);
}

TEST(Pairs, who_hits_too_often_is_let_go_and_others_are_not)
{
  LAGGARD_NEEDS_BPF();
  Worker busy{[] {
    for (std::uint64_t key = 1; key <= 3000; key++)
      laggard_test_begin(key, 0, 0, 0, 0);
  }};
  Worker calm{[] {
    laggard_test_begin(1, 0, 0, 0, 0);
    laggard_test_begin(2, 0, 0, 0, 0);
    laggard_test_end(1, 0);
  }};
  const auto probe = open({pair()}, 1000);
  calm.work();
  busy.work();
  EXPECT_EQ(collect_of(*probe, calm.pid()).outstanding, 1U);
  probe->look_at_events();
  EXPECT_THAT(probe->take_messages(), ElementsAre(AllOf(HasSubstr("pairs.toml:1: pair 'test'"), HasSubstr("more than 1000 times in a second"),
                                                        HasSubstr(std::to_string(busy.pid())), HasSubstr("is probed no more"))));
  EXPECT_EQ(probe->usable(), 1U);
  busy.work();  // unharmed
  calm.work();
  Worker later{[] { laggard_test_begin(1, 0, 0, 0, 0); }};
  look_for_programs(*probe);
  later.work();
  probe->look_at_events();
  EXPECT_THAT(probe->take_messages(), IsEmpty());
  EXPECT_EQ(collect_of(*probe, busy.pid()).begun, 0U);
  EXPECT_EQ(collect_of(*probe, calm.pid()).begun, 4U);
  EXPECT_EQ(collect_of(*probe, calm.pid()).ended, 2U);
  EXPECT_EQ(collect_of(*probe, later.pid()).begun, 1U);
}

TEST(Pairs, what_a_function_refuses_is_no_operation)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t key = 1; key <= 20; key++)
      if (laggard_test_try(key) == 0 && key > 10)
        laggard_test_end(key, 0);
  }};
  PairSpec spec = pair();
  spec.begins[0].function = "laggard_test_try";
  spec.begins[0].failed = {{KeySource::kReturned, {}}, true, source::Condition::Compare::Less, 0};
  const auto probe = open({spec});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sample.begun, 10U);
  EXPECT_EQ(sample.refused, 10U);
  EXPECT_EQ(sample.ended, 5U);
  EXPECT_EQ(sample.outstanding, 5U);
}

TEST(Pairs, a_key_may_be_what_the_function_returns)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t number = 0; number <= 20; number++)
      if (void* object = laggard_test_open(number); number > 13)
        laggard_test_end(reinterpret_cast<std::uint64_t>(object), 0);
  }};
  PairSpec spec = pair("test", {argument(KeySource::kReturned)});
  spec.begins[0].function = "laggard_test_open";
  const auto probe = open({spec});
  worker.work();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sample.begun, 20U);  // NULL is none
  EXPECT_EQ(sample.ended, 7U);
  EXPECT_EQ(sample.outstanding, 13U);
  EXPECT_THAT(sample.stack, testing::StartsWith("laggard_test_open\n"));
}

TEST(Pairs, an_operation_may_begin_only_if_memory_says_so_at_the_return)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    static std::uint64_t objects[10];
    for (std::uint64_t i = 0; i < 10; i++) {
      objects[i] = i % 3;
      laggard_test_take(&objects[i]);
    }
    laggard_test_end(reinterpret_cast<std::uint64_t>(&objects[1]), 0);
  }};
  PairSpec spec = pair();
  spec.begins[0].function = "laggard_test_take";
  spec.begins[0].only_if = {{{.argument = 1, .dereferenced_at = 0}, false, source::Condition::Compare::More, 0},
                            {{KeySource::kReturned, {}}, true, source::Condition::Compare::NotEqual, 2}};
  spec.each = true;
  spec.what = "takes";
  const auto probe = open({spec});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sample.begun, 3U);  // 1, 4, 7
  EXPECT_EQ(sample.ended, 1U);
  EXPECT_TRUE(sample.each);
  EXPECT_EQ(sample.what, "takes");
}

TEST(Pairs, overtaking_is_a_matter_of_one_connection)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t id = 0; id < 10; id++) {
      laggard_test_begin(1, id, 0, 0, 0);
      laggard_test_begin(2, id, 0, 0, 0);
    }
    for (std::uint64_t id = 4; id < 10; id++)
      laggard_test_end(1, id);
  }};
  const auto probe = open({pair("test", {argument(1), argument(2)}, {argument(1), argument(2)})});
  worker.work();
  const model::PairSample sample = collect_of(*probe, worker.pid());
  EXPECT_EQ(sum(sample.overtaken), 4U);
  EXPECT_EQ(sum(sample.waiting), 10U);
}

TEST(Pairs, which_end_was_reached_is_told)
{
  LAGGARD_NEEDS_BPF();
  Worker begins{[] { laggard_test_begin(1, 0, 0, 0, 0); }};
  Worker ends{[] { laggard_test_end(1, 0); }};
  PairSpec of_any = pair("any");
  of_any.binary = fs::path(this_program()).filename().string() + "*";
  const auto probe = open({of_any, pair("one")});
  begins.work();
  ends.work();
  std::map<std::pair<std::uint32_t, std::string>, std::pair<bool, bool>> seen;
  for (const model::PairSample& sample : collect(*probe))
    seen[{sample.process.tgid, sample.name}] = {sample.begin_seen, sample.end_seen};
  EXPECT_EQ(seen.at({begins.pid(), "any"}), (std::pair{true, false}));
  EXPECT_EQ(seen.at({begins.pid(), "one"}), (std::pair{true, true}));  // the other runs the same file
  EXPECT_EQ(seen.at({ends.pid(), "any"}), (std::pair{false, true}));
}

TEST(Pairs, mistakes_are_said_with_their_line_and_other_pairs_go_on)
{
  LAGGARD_NEEDS_BPF();
  const std::string script = fs::temp_directory_path() / "laggard-no-program";
  std::ofstream(script) << "#!/bin/sh\n";
  PairSpec unknown = pair("unknown"), no_file = pair("no-file"), no_elf = pair("no-elf"), seventh = pair("seventh"), no_usdt = pair("no-usdt");
  unknown.begins[0].function = "laggard_test_begni";
  no_file.binary = "/nowhere/program";
  no_elf.binary = script;
  seventh.ends[0].keys[0].argument = 9;
  no_usdt.begins[0].function = "usdt:laggard_test:nothing";
  Worker worker{[] { laggard_test_begin(1, 0, 0, 0, 0); }};
  const auto probe = open({unknown, no_file, no_elf, seventh, no_usdt, pair("good")});
  const std::vector<std::string> said = probe->take_messages();
  EXPECT_THAT(said, SizeIs(5)) << testing::PrintToString(said);
  EXPECT_THAT(said, testing::Contains(AllOf(HasSubstr("pairs.toml:4: pair 'unknown'"), HasSubstr("no function 'laggard_test_begni'"),
                                            HasSubstr("laggard_test_begin"))));
  EXPECT_THAT(said, testing::Contains(AllOf(HasSubstr("pairs.toml:1: pair 'no-file'"), HasSubstr("no file '/nowhere/program'"))));
  EXPECT_THAT(said, testing::Contains(AllOf(HasSubstr("pair 'no-elf'"), HasSubstr("is no ELF file"))));
  EXPECT_THAT(said, testing::Contains(AllOf(HasSubstr("pairs.toml:5: pair 'seventh'"), HasSubstr("arg9 is none of them"))));
  EXPECT_THAT(said, testing::Contains(AllOf(HasSubstr("pair 'no-usdt'"), HasSubstr("no USDT probe 'usdt:laggard_test:nothing'"))));
  worker.work();
  const auto samples = collect(*probe);
  ASSERT_THAT(samples, SizeIs(1));
  EXPECT_EQ(samples[0].name, "good");
  look_for_programs(*probe);
  EXPECT_THAT(probe->take_messages(), IsEmpty());  // once is enough
  fs::remove(script);
}

}  // namespace
}  // namespace laggard::test
