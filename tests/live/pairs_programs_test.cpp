// SPDX-License-Identifier: MIT
// Which programs the probes of --pairs are in, and what watch says of them, on the kernel.
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

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
  look_for_programs(*probe);
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
  EXPECT_EQ(collect_of(*probe, running.pid()).begun, 4U);
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
      is_once = collect_of(*probe, a.pid()).begun == 4 && collect_of(*probe, b.pid()).begun == 4;
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
  EXPECT_THAT(probe->take_messages(), ElementsAre(HasSubstr("there is no file"), HasSubstr("no process runs")));
  copy.place();
  Running running{copy.path()};
  look_for_programs(*probe);
  running.begin_three();
  std::map<std::string, std::uint64_t> outstanding;
  for (const model::PairSample& sample : collect(*probe))
    outstanding[sample.name] = sample.outstanding;
  EXPECT_EQ(outstanding["by-path"], 3U);
  EXPECT_EQ(outstanding["by-name"], 3U);
}

// Only "*" may find nothing and say nothing.
TEST(Pairs, what_a_pattern_does_not_find_is_said)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  Running running{copy.path()};
  PairSpec typo = pair("typo"), absent = pair("absent"), anybody = pair("anybody");
  typo.binary = "laggard-pairs-copy-*";
  typo.begins[0].function = "laggard_test_begni";
  absent.binary = "libnowhere.so*";
  anybody.binary = "*";
  anybody.begins[0].function = "laggard_test_nothing_like_it";
  EXPECT_THAT(open({typo, absent, anybody})->take_messages(),
              testing::UnorderedElementsAre(AllOf(HasSubstr("pair 'typo'"), HasSubstr("has no function 'laggard_test_begni'; similar: laggard_test_begin")),
                                            AllOf(HasSubstr("pair 'absent'"), HasSubstr("no process runs 'libnowhere.so*'"))));
}

TEST(Pairs, a_file_without_symbols_is_said_behind_a_pattern_too)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  {
    // What strip(1) leaves of a program without dynamic symbols: no section that a name could be in.
    std::fstream file(copy.path(), std::ios::in | std::ios::out | std::ios::binary);
    const std::uint64_t nowhere = 0;
    file.seekp(offsetof(Elf64_Ehdr, e_shoff));
    file.write(reinterpret_cast<const char*>(&nowhere), sizeof nowhere);
    file.seekp(offsetof(Elf64_Ehdr, e_shnum));
    file.write(reinterpret_cast<const char*>(&nowhere), sizeof(Elf64_Half));
  }
  Running running{copy.path()};
  PairSpec spec = pair();
  spec.binary = "laggard-pairs-copy-*";
  EXPECT_THAT(open({spec})->take_messages(), ElementsAre(AllOf(HasSubstr("pair 'test'"), HasSubstr("neither symbols nor"))));
}

TEST(Pairs, a_path_and_a_pattern_for_one_file_both_attach)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  Running running{copy.path()};
  PairSpec by_path = pair("by-path"), by_name = pair("by-name");
  by_path.binary = copy.path();
  by_name.binary = "laggard-pairs-copy-*";
  const auto probe = open({by_path, by_name});
  running.begin_three();
  EXPECT_THAT(collect(*probe), SizeIs(2));
}

// Without a walk over all processes: the kernel tells who maps a file.
TEST(Pairs, a_program_that_starts_is_probed_within_a_hundred_calls)
{
  LAGGARD_NEEDS_BPF();
  PairSpec spec = pair();
  Copy copy;
  spec.binary = fs::path(copy.path()).filename().string() + "*";
  const auto probe = open({spec});
  copy.place();
  Running running{copy.path()};
  running.begin_at_once();
  pollfd readable{probe->event_fds().at(1), POLLIN, 0};
  ASSERT_EQ(::poll(&readable, 1, 5000), 1);
  probe->look_at_events();
  probe->settle(std::chrono::seconds(5));
  running.wait();
  EXPECT_GE(collect_of(*probe, running.pid()).begun, 204U);  // of 304
}

// What fills the memory of the process that reads it is named, and whatever else is probed goes on.
TEST(Pairs, a_file_that_is_made_to_harm_ends_its_reader_only)
{
  LAGGARD_NEEDS_BPF();
  Copy copy;
  copy.place();
  {
    std::fstream file(copy.path(), std::ios::in | std::ios::out | std::ios::binary);
    Elf64_Ehdr header{};
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    const std::uint64_t names_bytes = 900 << 20;  // sparse
    file.seekp(static_cast<std::streamoff>(header.e_shoff + header.e_shstrndx * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_size)));
    file.write(reinterpret_cast<const char*>(&names_bytes), sizeof names_bytes);
  }
  fs::resize_file(copy.path(), fs::file_size(copy.path()) + (901 << 20));
  PairSpec harmful = pair("harmful");
  harmful.binary = copy.path();
  Worker worker{[] { laggard_test_begin(1, 0, 0, 0, 0); }};
  auto reader = source::live::ElfReader::start(400 << 20);
  ASSERT_TRUE(reader) << reader.error().message();
  auto probe = PairProbe::open({{harmful, pair()}, 1'000'000, ""}, std::move(*reader));
  ASSERT_TRUE(probe) << probe.error().message();
  look_for_programs(**probe);
  EXPECT_THAT((*probe)->take_messages(), ElementsAre(AllOf(HasSubstr("pair 'harmful': '" + copy.path()), HasSubstr("to be read"))));
  worker.work();
  EXPECT_EQ(collect_of(**probe, worker.pid()).outstanding, 1U);
}

TEST(Pairs, of_a_watch_that_is_killed_no_child_stays)
{
  LAGGARD_NEEDS_BPF();
  const std::string file = fs::temp_directory_path() / ("laggard-pairs-killed-" + std::to_string(::getpid()) + ".toml");
  std::ofstream(file) << "[[pair]]\nname = \"any\"\nbinary = \"" << this_program()
                      << "\"\nbegin = \"laggard_test_begin\"\nend = \"laggard_test_end\"\n";
  Observer observer{{"watch", "--pairs", file}};
  observer.wait_started();
  const std::string number = std::to_string(observer.child().pid());
  std::string child;
  ASSERT_TRUE(eventually([&] { return static_cast<bool>(std::ifstream("/proc/" + number + "/task/" + number + "/children") >> child); }, 10));
  observer.child().signal(SIGKILL);
  EXPECT_EQ(observer.child().wait(), 128 + SIGKILL);
  EXPECT_TRUE(eventually([&] {
    std::string line;
    std::ifstream status("/proc/" + child + "/status");
    while (std::getline(status, line) && !line.starts_with("State:"))
      continue;
    return !status || line.find('Z') != std::string::npos;  // nobody may wait for orphans here
  }, 10));
  fs::remove(file);
}

TEST(Pairs, watch_accuses_nobody_whose_end_is_never_reached)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    static std::uint64_t key = 0;
    laggard_test_begin(++key, 0, 0, 0, 0);
    laggard_test_begin(++key, 0, 0, 0, 0);
  }};
  const std::string file = fs::temp_directory_path() / ("laggard-pairs-half-" + std::to_string(::getpid()) + ".toml");
  std::ofstream(file) << "[[pair]]\nname = \"half\"\nbinary = \"" << fs::path(this_program()).filename().string() << "*"
                      << "\"\nbegin = \"laggard_test_begin\"\nend = \"laggard_test_cancel\"\n";
  Observer observer{{"watch", "--pairs", file, "--unpaired", "1s", "--unpaired-count", "4"}};
  observer.wait_started();
  const auto says_so = [](const Json& line) {
    return line.value("event.name", "") == "laggard.agent.degraded" && line.at("message").get<std::string>().find("no end was reached once") != std::string::npos;
  };
  bool said = false;
  for (int i = 0; i < 24; i++) {
    worker.work();
    said = observer.wait_for(says_so, 0.5) || said;
  }
  EXPECT_TRUE(said);
  EXPECT_FALSE(observer.wait_for_finding("unpaired-operations", worker.pid(), 0.5));
  observer.stop();
  fs::remove(file);
}

// Six times as long as --unpaired, and everything completes in the end.
TEST(Pairs, watch_accuses_nobody_whose_peer_pauses_for_long)
{
  LAGGARD_NEEDS_BPF();
  Worker worker{[] {
    static std::uint64_t begun = 0, turn = 0;
    laggard_test_begin(++begun, 0, 0, 0, 0);
    laggard_test_begin(++begun, 0, 0, 0, 0);
    static std::uint64_t ended = 0;
    for (++turn; (turn < 8 || turn > 48) && ended < begun;)
      laggard_test_end(++ended, 0);
  }};
  const std::string file = fs::temp_directory_path() / ("laggard-pairs-pause-" + std::to_string(::getpid()) + ".toml");
  std::ofstream(file) << "[[pair]]\nname = \"pause\"\nbinary = \"" << this_program()
                      << "\"\nbegin = \"laggard_test_begin\"\nend = \"laggard_test_end\"\n";
  Observer observer{{"watch", "--pairs", file, "--unpaired", "1s", "--unpaired-count", "4"}};
  observer.wait_started();
  for (int i = 0; i < 56; i++) {
    worker.work();
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
  EXPECT_FALSE(observer.wait_for_finding("unpaired-operations", worker.pid(), 0.5));
  observer.stop();
  fs::remove(file);
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
  EXPECT_GE(found->at("laggard.evidence.ended"), 1U);
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
