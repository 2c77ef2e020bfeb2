// SPDX-License-Identifier: MIT
// Faults of what laggard writes to: full, failing, closed.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "live/faults.h"

namespace laggard::test {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kWatch = {laggard_program(), "watch", "--output", "json", "--stall", "1s", "--max-cpu", "100%"};

std::vector<std::string> watch(std::initializer_list<std::string> more)
{
  std::vector<std::string> words = kWatch;
  words.insert(words.end(), more);
  return words;
}

std::string last_line(const std::string& text)
{
  const std::string all = text.substr(0, text.find_last_not_of('\n') + 1);
  return all.substr(all.rfind('\n') + 1);
}

// Of a file system with so little room.
class SmallDisk : public Directory {
 public:
  explicit SmallDisk(const std::string& size)
      : is_mounted_(::mount("laggard-faults", path().c_str(), "tmpfs", 0, ("size=" + size + ",mode=0755,uid=65534").c_str()) == 0)
  {
  }
  ~SmallDisk()
  {
    if (is_mounted_)
      ::umount2(path().c_str(), MNT_DETACH);
  }
  bool is_mounted() const { return is_mounted_; }
  void fill() const
  {
    std::ofstream file{at("filler"), std::ios::app};
    while (file << std::string(4096, 'x') << std::flush) {
    }
  }

 private:
  bool is_mounted_;
};

const auto to_full_device = [] { ::dup2(::open("/dev/full", O_WRONLY | O_CLOEXEC), 1); };

TEST_F(Faults, every_command_says_that_its_output_is_full)
{
  const std::string recording = std::string(LAGGARD_SOURCE_DIR) + "/tests/replay/slow-reader.laggard";
  Workload program({"never-reads"});
  const std::vector<std::vector<std::string>> commands = {{"watch", "--output", "json"},
                                                          {"snapshot", "--output", "json"},
                                                          {"snapshot", "--output", "text"},
                                                          {"replay", "--output", "json", recording},
                                                          {"replay", "--output", "text", recording},
                                                          {"replay", "--output", "logfmt", recording},
                                                          {"explain", "--pid", std::to_string(program.pid()), "--duration", "1s", "--output", "text"},
                                                          {"doctor"},
                                                          {"doctor", "--output", "json"},
                                                          {"--help"},
                                                          {"--version"},
                                                          {"watch", "--pairs", "list"},
                                                          {"watch", "--output-file", "/dev/full"}};
  for (std::vector<std::string> command : commands) {
    const std::string words = fmt::format("{}", fmt::join(command, " "));
    command.insert(command.begin(), laggard_program());
    Child laggard(command, to_full_device);
    EXPECT_EQ(laggard.wait(), 4) << words;
    EXPECT_THAT(last_line(laggard.error_text()), HasSubstr("No space left on device")) << words;
  }
  row(fmt::format("/dev/full as standard output of {} commands, and as --output-file", commands.size() - 1), "the output",
      "\"laggard: cannot write the output: No space left on device\", exit code 4");
}

TEST_F(Faults, disk_full_under_an_output_file)
{
  const SmallDisk disk{"64k"};
  if (!disk.is_mounted())
    GTEST_SKIP() << "no file system can be mounted here";
  Child laggard(watch({"--output-file", disk.at("out")}));
  ASSERT_TRUE(eventually([&] { return has_event(disk.at("out"), "started"); }));
  disk.fill();
  // What is left of its last page is filled by findings.
  std::vector<std::unique_ptr<Player>> guilty;
  for (int i = 0; i < 20; i++)
    guilty.push_back(std::make_unique<Player>("full-disk", [] {
      unread_datagram();
      ::pause();
    }));
  EXPECT_EQ(laggard.wait(), 4);
  const std::string said = laggard.error_text();
  EXPECT_THAT(said, HasSubstr("cannot write the output: No space left on device"));
  row("the disk fills up under --output-file", "what came after that", fmt::format("\"{}\", exit code 4", last_line(said)));
}

TEST_F(Faults, disk_full_under_a_recording)
{
  const SmallDisk disk{"64k"};
  if (!disk.is_mounted())
    GTEST_SKIP() << "no file system can be mounted here";
  const std::string path = disk.at("full.laggard");
  Workload program({"slow-reader"});
  Child laggard({laggard_program(), "record", path, "--interval", "100ms", "--max-cpu", "100%"});
  ASSERT_TRUE(eventually([&] { return content(path).size() > 8192; }));
  disk.fill();
  EXPECT_EQ(laggard.wait(), 4);
  const std::string said = laggard.error_text();
  EXPECT_THAT(said, HasSubstr("cannot write the recording"));
  EXPECT_THAT(said, HasSubstr("No space left on device"));
  // Up to there it can be replayed.
  Child replay({laggard_program(), "replay", "--output", "json", path});
  std::vector<Json> lines;
  while (const auto line = replay.read_line(kDeadlineSeconds))
    lines.push_back(Json::parse(*line));
  const int exit_code = replay.wait();
  EXPECT_TRUE(exit_code == 4 || exit_code == 0) << exit_code;  // 0: it ends with a whole tick
  ASSERT_FALSE(lines.empty());
  EXPECT_GT(lines.back().value("laggard.agent.ticks", 0), 2);
  EXPECT_EQ(lines.back()["laggard.agent.incomplete"], exit_code == 4);
  row("the disk fills up under a recording", fmt::format("what came after that; {} ticks replay", lines.back().value("laggard.agent.ticks", 0)),
      "\"cannot write the recording ...: No space left on device\", exit code 4");
}

TEST_F(Faults, disk_full_under_metrics_and_heartbeat)
{
  const SmallDisk disk{"64k"};
  if (!disk.is_mounted())
    GTEST_SKIP() << "no file system can be mounted here";
  const std::string page = disk.at("laggard.prom"), beat = disk.at("beat");
  Child laggard(watch({"--metrics-textfile", page, "--heartbeat", beat}));
  ASSERT_TRUE(eventually([&] { return metric(content(page), "laggard_ticks_total") > 0 && !content(beat).empty(); }));
  disk.fill();
  const auto said = laggard.read_error_line(kDeadlineSeconds);
  ASSERT_TRUE(said);
  EXPECT_THAT(*said, HasSubstr("No space left on device"));
  const double before = metric(content(page), "laggard_ticks_total");
  EXPECT_GT(before, 0) << "the page before is whole";
  const std::string beaten = content(beat);
  EXPECT_TRUE(eventually([&] { return content(beat) != beaten; })) << "the heartbeat needs no more room";
  ASSERT_EQ(::unlink(disk.at("filler").c_str()), 0);
  EXPECT_TRUE(eventually([&] { return metric(content(page), "laggard_ticks_total") > before; }));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_EQ(laggard.error_text(), "") << "said once";
  row("the disk is full under --metrics-textfile and --heartbeat for a while", "pages meanwhile; the last one stays whole",
      fmt::format("\"{}\", exit code 0", *said));
}

TEST_F(Faults, a_limit_of_file_size)
{
  const Directory directory;
  const std::string out = directory.at("out"), recording = directory.at("small.laggard");
  const auto limit_to = [](rlim_t bytes) {
    return [bytes] {
      const rlimit limit{bytes, bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    };
  };
  Child laggard(watch({"--output-file", out}), limit_to(100));
  EXPECT_EQ(laggard.wait(), 4);
  EXPECT_THAT(laggard.error_text(), HasSubstr("cannot write the output: File too large"));
  Child recorder({laggard_program(), "record", recording, "--interval", "100ms"}, limit_to(3001));
  EXPECT_EQ(recorder.wait(), 4);
  EXPECT_THAT(recorder.error_text(), HasSubstr("File too large"));
  row("RLIMIT_FSIZE under --output-file and a recording", "what came after that", "\"cannot write the output: File too large\", exit code 4");
}

TEST_F(Faults, input_output_errors)
{
  // A terminal whose other end is gone.
  const Fd master{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
  ASSERT_TRUE(master && ::grantpt(master.get()) == 0 && ::unlockpt(master.get()) == 0);
  const std::string terminal = ::ptsname(master.get());
  std::string said;
  {
    Fd keeps_it{::open(terminal.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC)};
    const Directory directory;
    const std::string beat = directory.at("beat");
    Child laggard(watch({"--heartbeat", beat}), [&] { ::dup2(::open(terminal.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC), 1); });
    ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
    const_cast<Fd&>(master).reset();
    Workload program({"never-reads"});
    EXPECT_EQ(laggard.wait(), 4);
    said = laggard.error_text();
    EXPECT_THAT(said, HasSubstr("cannot write the output: Input/output error"));
  }
  // A file of which nothing can be written: this process's memory at address 0.
  Child other(watch({"--output-file", fmt::format("/proc/{}/mem", ::getpid())}));
  EXPECT_EQ(other.wait(), 4);
  EXPECT_THAT(other.error_text(), HasSubstr("cannot write the output: Input/output error"));
  row("EIO: a terminal that is gone, an output file that fails", "what came after that", fmt::format("\"{}\", exit code 4", last_line(said)));
}

TEST_F(Faults, closed_from_the_start)
{
  const Directory directory;
  const std::string beat = directory.at("beat"), page = directory.at("nobodys/laggard.prom"), out = directory.at("nobodys/out");
  std::string said;
  {
    // What is opened next would get the number 1, and the lines.
    Child laggard(watch({"--heartbeat", beat, "--metrics-textfile", page}), [] { ::close(1); });
    EXPECT_EQ(laggard.wait(), 4);
    said = laggard.error_text();
    EXPECT_THAT(said, HasSubstr("cannot write the output: Bad file descriptor"));
    EXPECT_EQ(content(beat).find('{'), std::string::npos);
  }
  {
    Child laggard(watch({"--heartbeat", beat, "--output-file", out}), [] {
      ::close(0);
      ::close(1);
      ::close(2);
    });
    ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
    Workload program({"never-reads"});
    EXPECT_TRUE(eventually([&] { return content(out).find("stalled-reader") != std::string::npos; }));
    EXPECT_EQ(content(beat).find("laggard:"), std::string::npos);
    laggard.signal(SIGTERM);
    EXPECT_EQ(laggard.wait(), 0);
    for (const Json& line : lines_of(content(out)))
      EXPECT_TRUE(line.contains("event.name"));
  }
  row("standard output closed from the start; with --output-file all three closed", "the output; nothing with --output-file",
      fmt::format("\"{}\", exit code 4; with --output-file exit code 0", last_line(said)));
}

// What happens when more lines wait than there is room for: Output.a_reader_that_stopped*.
TEST_F(Faults, standard_output_blocked)
{
  const Directory directory;
  const std::string beat = directory.at("beat"), page = directory.at("nobodys/laggard.prom");
  Child laggard(watch({"--heartbeat", beat, "--metrics-textfile", page}), [] {
    ::fcntl(1, F_SETPIPE_SZ, 4096);
    ::fcntl(1, F_SETFL, ::fcntl(1, F_GETFL) | O_NONBLOCK);
    while (::write(1, "full\n", 5) > 0) {
    }
    ::fcntl(1, F_SETFL, ::fcntl(1, F_GETFL) & ~O_NONBLOCK);
  });
  Workload program({"never-reads"});
  EXPECT_TRUE(eventually([&] { return metric(content(page), "laggard_findings_opened_total") > 0; }));
  const double waiting = metric(content(page), "laggard_output_waiting_lines");
  EXPECT_GT(waiting, 1);
  const std::string beaten = content(beat);
  EXPECT_TRUE(eventually([&] { return content(beat) != beaten; }));
  Child health({laggard_program(), "health", "--heartbeat", beat, "--max-age", "5s"});
  EXPECT_EQ(health.wait(), 0);
  bool found = false;
  for (const double end = now_seconds() + kDeadlineSeconds; !found && now_seconds() < end;)
    if (const auto line = laggard.read_line(1))
      found = line->find("\"process.pid\":" + std::to_string(program.pid()) + ",") != std::string::npos;
  EXPECT_TRUE(found) << "the line has waited";
  laggard.signal(SIGTERM);
  while (laggard.read_line(kDeadlineSeconds)) {
  }
  EXPECT_EQ(laggard.wait(), 0);
  row("standard output is a pipe whose reader has stopped", fmt::format("nothing: {:.0f} lines waited, looks and heartbeat went on", waiting),
      "the lines, when the reader is back; beyond 4 MiB how many were dropped");
}

}  // namespace
}  // namespace laggard::test
