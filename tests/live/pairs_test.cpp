// SPDX-License-Identifier: MIT
// Probes in programs, on the kernel (DESIGN 5.5): exact counts of what a child of this very program begins and ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <laggard/abi/records.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sdt.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "base/fd.h"
#include "harness.h"
#include "source/decode.h"
#include "source/live/pair_probe.h"

// What is probed. Not inlined, and with a body of their own each, so that no linker folds them.
extern "C" {
__attribute__((noinline, used)) void laggard_test_begin(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e)
{
  asm volatile("# begin" : : "r"(a), "r"(b), "r"(c), "r"(d), "r"(e) : "memory");
}
__attribute__((noinline, used)) void laggard_test_end(std::uint64_t a, std::uint64_t b) { asm volatile("# end" : : "r"(a), "r"(b) : "memory"); }
__attribute__((noinline, used)) void laggard_test_cancel(std::uint64_t a, std::uint64_t b) { asm volatile("# cancel" : : "r"(a), "r"(b) : "memory"); }
__attribute__((noinline, used)) void laggard_test_close(std::uint64_t a) { asm volatile("# close" : : "r"(a) : "memory"); }
__attribute__((noinline, used)) void laggard_test_caller(std::uint64_t key)
{
  laggard_test_begin(key, 0, 0, 0, 0);
  asm volatile("# no tail call");
}
}

namespace laggard::test {
namespace {

using source::KeySource;
using source::PairSpec;
using source::live::PairProbe;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace fs = std::filesystem;

std::string this_program() { return fs::read_symlink("/proc/self/exe").string(); }

// A child that works when it is told to, and then waits.
class Worker {
 public:
  explicit Worker(std::function<void()> work)
  {
    int go[2], done[2];
    if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(done, O_CLOEXEC) != 0)
      throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      for (char byte = 0; ::read(go[0], &byte, 1) == 1;) {
        work();
        if (::write(done[1], &byte, 1) != 1)
          break;
      }
      ::_exit(0);
    }
    ::close(go[0]);
    ::close(done[1]);
    go_.reset(go[1]);
    done_.reset(done[0]);
  }
  ~Worker()
  {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void work()
  {
    char byte = 1;
    if (::write(go_.get(), &byte, 1) != 1 || ::read(done_.get(), &byte, 1) != 1)
      throw std::runtime_error("the worker has left");
  }
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_ = -1;
  Fd go_, done_;
};

KeySource argument(unsigned number) { return {number, std::nullopt}; }

PairSpec pair(const std::string& name = "test", std::vector<KeySource> begin_keys = {{}}, std::vector<KeySource> end_keys = {{}})
{
  PairSpec spec;
  spec.name = name;
  spec.binary = this_program();
  spec.begins = {{"laggard_test_begin", std::move(begin_keys), 4}};
  spec.ends = {{"laggard_test_end", std::move(end_keys), 5}};
  spec.file = "pairs.toml";
  spec.line = 1;
  return spec;
}

std::unique_ptr<PairProbe> open(std::vector<PairSpec> pairs, std::uint64_t limit = 1'000'000)
{
  const char* hook = std::getenv("LAGGARD_PAIRS_HOOK");
  auto probe = PairProbe::open({std::move(pairs), limit, hook != nullptr ? hook : ""});
  if (!probe)
    throw std::runtime_error(probe.error().message());
  return std::move(*probe);
}

std::vector<model::PairSample> collect(PairProbe& probe)
{
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  source::RawTick raw(sizeof(laggard_tick_record));
  laggard_tick_record head{};
  head.header = {LAGGARD_RECORD_TICK, sizeof head, 1};
  std::memcpy(raw.data(), &head, sizeof head);
  const auto is_alive = [](std::uint32_t tgid, std::uint64_t) { return ::kill(static_cast<pid_t>(tgid), 0) == 0; };
  probe.collect(MonoTime{std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)}, 1, is_alive, raw);
  auto tick = source::decode(raw);
  if (!tick)
    throw std::runtime_error(tick.error().message());
  return tick->pairs;
}

model::PairSample collect_of(PairProbe& probe, std::uint32_t pid)
{
  for (const model::PairSample& sample : collect(probe))
    if (sample.process.tgid == pid)
      return sample;
  return {};
}

std::uint64_t sum(const std::array<std::uint32_t, model::kPairAges>& ages)
{
  return std::accumulate(ages.begin(), ages.end(), std::uint64_t{0});
}

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

TEST(Pairs, what_is_hit_too_often_is_detached_and_said)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    for (std::uint64_t key = 1; key <= 3000; key++)
      laggard_test_begin(key, 0, 0, 0, 0);
  }};
  const auto probe = open({pair()}, 1000);
  worker.work();
  EXPECT_EQ(collect_of(*probe, worker.pid()).begun, 1000U);
  EXPECT_TRUE(probe->detach_stopped());
  EXPECT_THAT(probe->take_messages(), ElementsAre(AllOf(HasSubstr("pairs.toml:1: pair 'test'"), HasSubstr("more than 1000 times in a second"))));
  EXPECT_THAT(collect(*probe), IsEmpty());
  EXPECT_EQ(probe->usable(), 0U);
  worker.work();  // unharmed
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
  probe->look_for_programs();
  EXPECT_THAT(probe->take_messages(), IsEmpty());  // once is enough
  fs::remove(script);
}

// This program under another name.
class Copy {
 public:
  Copy() : path_((fs::temp_directory_path() / ("laggard-pairs-copy-" + std::to_string(::getpid()))).string()) {}
  ~Copy() { fs::remove(path_); }
  void place() const
  {
    fs::copy_file(this_program(), path_ + ".new", fs::copy_options::overwrite_existing);
    fs::rename(path_ + ".new", path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// What a copy does instead of testing, before main(): begins three operations each time it is told to, or makes room for another
// program, which is itself.
__attribute__((constructor)) void begin_three_operations()
{
  if (std::getenv("LAGGARD_PAIRS_COPY") == nullptr)
    return;
  std::uint64_t key = 0;
  for (char byte = '@'; ::write(STDOUT_FILENO, &byte, 1) == 1 && ::read(STDIN_FILENO, &byte, 1) == 1; byte = '#') {
    if (byte == 'x')
      ::execl("/proc/self/exe", "again", nullptr);
    for (int i = 0; i < 3; i++)
      laggard_test_caller(++key);
  }
  ::_exit(0);
}

class Running {
 public:
  explicit Running(const std::string& program)
  {
    int ready[2], go[2];
    if (::pipe(ready) != 0 || ::pipe(go) != 0)
      throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(go[0], STDIN_FILENO);
      ::dup2(ready[1], STDOUT_FILENO);
      ::setenv("LAGGARD_PAIRS_COPY", "1", 1);
      ::execl(program.c_str(), program.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ready[1]);
    ::close(go[0]);
    go_.reset(go[1]);
    ready_.reset(ready[0]);
    wait_for('@');
  }
  ~Running()
  {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  void begin_three() { tell('\n', '#'); }
  void exec() { tell('x', '@'); }
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  void tell(char what, char answer)
  {
    if (::write(go_.get(), &what, 1) != 1)
      throw std::runtime_error("the copy has left");
    wait_for(answer);
  }
  void wait_for(char wanted)
  {
    for (char byte = 0; byte != wanted;)
      if (::read(ready_.get(), &byte, 1) != 1)
        throw std::runtime_error("the copy has left");
  }
  pid_t pid_ = -1;
  Fd go_, ready_;
};

TEST(Pairs, a_program_that_is_replaced_on_disk_is_probed_old_and_new)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  Running old{copy.path()};
  copy.place();  // before we look: only the process has the old one
  PairSpec spec = pair();
  spec.binary = copy.path();
  const auto probe = open({spec});
  Running middle{copy.path()};
  copy.place();  // while we look
  probe->look_for_programs();
  Running fresh{copy.path()};
  for (Running* running : {&old, &middle, &fresh}) {
    running->begin_three();
    EXPECT_EQ(collect_of(*probe, running->pid()).outstanding, 3U);
  }
}

TEST(Pairs, what_a_program_left_open_ends_when_another_takes_its_process_over)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  PairSpec spec = pair();
  spec.binary = copy.path();
  const auto probe = open({spec});
  Running running{copy.path()};
  running.begin_three();
  EXPECT_EQ(collect_of(*probe, running.pid()).outstanding, 3U);
  running.exec();
  running.begin_three();
  EXPECT_EQ(collect_of(*probe, running.pid()).outstanding, 3U);
  EXPECT_EQ(collect_of(*probe, running.pid()).begun, 3U);
}

// Two containers of one image: the same lower file, on two devices as stat() tells.
TEST(Pairs, a_file_that_two_overlays_show_is_probed_once)
{
  LAGGARD_NEEDS_BPF();
  const fs::path root = fs::temp_directory_path() / ("laggard-pairs-overlay-" + std::to_string(::getpid()));
  const auto mount_all = [&root] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return false;
    fs::create_directories(root);
    if (::mount("laggard", root.c_str(), "tmpfs", 0, nullptr) != 0)
      return false;
    fs::create_directories(root / "low");
    fs::copy_file(this_program(), root / "low/program");
    for (const std::string name : {"a", "b"}) {
      for (const char* part : {"up", "work", "merged"})
        fs::create_directories(root / name / part);
      const std::string options = "lowerdir=" + (root / "low").string() + ",upperdir=" + (root / name / "up").string() +
                                  ",workdir=" + (root / name / "work").string();
      if (::mount("laggard", (root / name / "merged").c_str(), "overlay", 0, options.c_str()) != 0)
        return false;
    }
    return true;
  };
  // In a process of its own: the mounts end with it.
  const pid_t child = ::fork();
  if (child == 0) {
    if (!mount_all())
      ::_exit(77);
    bool is_once = false;
    {
      PairSpec spec = pair();
      spec.binary = "program*";
      Running a{root / "a/merged/program"}, b{root / "b/merged/program"};
      const auto probe = open({spec});
      a.begin_three();
      b.begin_three();
      is_once = collect_of(*probe, a.pid()).begun == 3 && collect_of(*probe, b.pid()).begun == 3;
    }  // ends both
    ::_exit(is_once ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  fs::remove(root);
  if (WEXITSTATUS(status) == 77)
    GTEST_SKIP() << "no overlayfs here";
  EXPECT_EQ(status, 0);
}

TEST(Pairs, a_program_that_comes_later_is_probed_when_it_comes)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  PairSpec by_path = pair("by-path"), by_name = pair("by-name");
  by_path.binary = copy.path();
  by_name.binary = "laggard-pairs-copy-*";
  const auto probe = open({by_path, by_name});
  EXPECT_THAT(probe->take_messages(), ElementsAre(HasSubstr("there is no file")));
  copy.place();
  Running running{copy.path()};
  probe->look_for_programs();
  running.begin_three();
  std::map<std::string, std::uint64_t> outstanding;
  for (const model::PairSample& sample : collect(*probe))
    outstanding[sample.name] = sample.outstanding;
  EXPECT_EQ(outstanding["by-path"], 3U);
  EXPECT_EQ(outstanding["by-name"], 3U);
}

TEST(Pairs, watch_names_who_loses_operations_without_a_capability_to_load)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  const std::string file = copy.path() + ".toml";
  std::ofstream(file) << "[[pair]]\nname = \"lost\"\nbinary = \"" << copy.path()
                      << "\"\nbegin = \"laggard_test_begin\"\nend = \"laggard_test_end\"\n"
                         "[[pair]]\nname = \"wrong\"\nbinary = \"" << copy.path() << "\"\nbegin = \"laggard_test_begin\"\n";
  // By perf events a file must be there before the privileges are dropped.
  const bool comes_later = open({})->hook() == "uprobe_multi";
  if (!comes_later)
    copy.place();
  Observer observer{{"watch", "--pairs", file, "--unpaired", "1s", "--unpaired-count", "4"}};
  observer.wait_started();
  if (comes_later)
    copy.place();
  Running running{copy.path()};
  std::optional<Json> found;
  for (int i = 0; i < 40 && !found; i++) {
    running.begin_three();
    found = observer.wait_for_finding("unpaired-operations", running.pid(), 0.5);
  }
  ASSERT_TRUE(found) << Json(observer.lines()).dump(1);
  EXPECT_EQ(found->at("laggard.evidence.pair"), "lost");
  EXPECT_EQ(found->at("laggard.evidence.ended"), 0U);
  EXPECT_THAT(found->at("laggard.evidence.stack").get<std::string>(), HasSubstr("laggard_test_begin < laggard_test_caller"));
  EXPECT_THAT(found->at("laggard.quality.hooks").get<std::string>(), HasSubstr("pairs=uprobe"));
  if (comes_later) {
    EXPECT_TRUE(observer.wait_for([&](const Json& line) {
      return line.value("event.name", "") == "laggard.agent.degraded" &&
             line.at("message").get<std::string>().find("there is no file '" + copy.path()) != std::string::npos;
    }));
  }
  observer.stop();
  EXPECT_THAT(observer.child().error_text(), HasSubstr(file + ":6: pair 'wrong': 'end' is missing"));
  fs::remove(file);
}

}  // namespace
}  // namespace laggard::test
