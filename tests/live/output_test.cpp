// SPDX-License-Identifier: MIT
// Whoever reads laggard's output, or does not, has no say in whether laggard looks.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "live/harness.h"

namespace laggard::test {
namespace {

using testing::HasSubstr;

void fill(int fd)
{
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (::write(fd, "full\n", 5) > 0) {
  }
  ::fcntl(fd, F_SETFL, flags);
}

// Processes that each hold a UDP socket which they never read: a finding each, where they have names of their own; else many of them
// are one.
class Sleepers {
 public:
  explicit Sleepers(int count, bool named = false)
  {
    for (int i = 0; i < count; i++) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (named)
          ::prctl(PR_SET_NAME, fmt::format("sleeper-{}", i).c_str());
        const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
            ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
            ::sendto(fd, "unread", 6, 0, reinterpret_cast<sockaddr*>(&address), size) != 6)
          ::_exit(1);
        for (;;)
          ::pause();
      }
      if (pid > 0)
        pids_.push_back(pid);
    }
  }
  Sleepers(const Sleepers&) = delete;
  Sleepers& operator=(const Sleepers&) = delete;
  ~Sleepers() { end(); }
  std::size_t count() const { return pids_.size(); }
  void end()
  {
    for (const pid_t pid : pids_)
      ::kill(pid, SIGKILL);
    for (const pid_t pid : pids_)
      ::waitpid(pid, nullptr, 0);
    pids_.clear();
  }

 private:
  std::vector<pid_t> pids_;
};

// By a line that says so.
double dropped_in(const Json& line)
{
  double sum = 0;
  for (const char* kind : {"opened", "updated", "resolved", "degraded"})
    sum += line.value(std::string("laggard.output.dropped_") + kind, 0.0);
  return sum;
}

class Output : public testing::Test {
 protected:
  void SetUp() override
  {
    LAGGARD_NEEDS_BPF();
    if (::geteuid() != 0)
      GTEST_SKIP() << "only root can become nobody";
  }
  Directory directory_;
};

TEST_F(Output, a_reader_that_stopped_stops_no_look_and_is_told_first_what_it_missed)
{
  if (std::getenv("LAGGARD_LIVE_QUICK") != nullptr)
    GTEST_SKIP() << "too many processes for an emulated machine";
  const std::string beat = directory_.at("beat"), page = directory_.at("nobodys/laggard.prom");
  Child laggard({laggard_program(), "watch", "--output", "json", "--stall", "1s", "--only",
                 "stalled-reader", "--heartbeat", beat, "--metrics-textfile", page, "--max-cpu", "100%"},
                [] {
                  ::fcntl(1, F_SETPIPE_SZ, 4096);
                  fill(1);
                });
  ASSERT_TRUE(eventually([&] { return metric(content(page), "laggard_ticks_total") > 0; }))
      << laggard.read_error_line(0).value_or("");
  const auto total = [&](const std::string& name) { return metric(content(page), name); };
  Sleepers sleepers{1301, true};
  const auto found = static_cast<double>(sleepers.count());
  EXPECT_TRUE(eventually([&] { return total("laggard_findings_opened_total") >= found; }));
  EXPECT_GT(total("laggard_output_waiting_lines"), 1000);
  sleepers.end();
  EXPECT_TRUE(eventually([&] { return total("laggard_findings_resolved_total") >= found; }));
  EXPECT_GT(total("laggard_output_dropped_total"), 0);

  const std::string before = content(beat);
  const double ticks = total("laggard_ticks_total");
  EXPECT_FALSE(before.empty());
  EXPECT_TRUE(eventually([&] { return content(beat) != before && total("laggard_ticks_total") > ticks; }));
  Child health({laggard_program(), "health", "--heartbeat", beat, "--max-age", "5s"});
  EXPECT_EQ(health.wait(), 0);

  laggard.signal(SIGTERM);
  std::vector<Json> lines;
  while (const auto line = laggard.read_line(kDeadlineSeconds))
    if (const auto begin = line->find('{'); begin != std::string::npos)  // behind what filled the pipe
      lines.push_back(Json::parse(line->substr(begin)));
  EXPECT_EQ(laggard.wait(), 0) << laggard.error_text();
  ASSERT_GT(lines.size(), 2U);
  EXPECT_EQ(lines[0]["event.name"], "laggard.agent.started");  // it waited at the pipe
  EXPECT_EQ(lines[1]["event.name"], "laggard.agent.degraded");
  EXPECT_GT(dropped_in(lines[1]), 0);
  double dropped = 0;
  for (const Json& line : lines)
    if (line["event.name"] == "laggard.agent.degraded")
      dropped += dropped_in(line);
  EXPECT_EQ(lines.back()["event.name"], "laggard.agent.stopped");
  EXPECT_EQ(lines.back()["laggard.agent.incomplete"], false);
  EXPECT_EQ(dropped_in(lines.back()), dropped);
  EXPECT_EQ(total("laggard_output_dropped_total"), dropped);
}

// A page of http://127.0.0.1:PORT/metrics; empty: nobody answers.
std::string scrape(std::uint16_t port)
{
  const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
    return {};
  std::string page;
  char bytes[65536];
  for (ssize_t got = 0; (got = ::recv(fd.get(), bytes, sizeof bytes, 0)) > 0;)
    page.append(bytes, static_cast<std::size_t>(got));
  return page;
}

// All that has a thread, at work at once. For the thread sanitizer: LAGGARD_BIN is then built with it.
TEST_F(Output, scrapes_findings_and_hangups_at_once)
{
  std::string comm = content("/proc/self/comm");
  comm.pop_back();
  const std::string path = directory_.at("nobodys/out"), page = directory_.at("nobodys/laggard.prom");
  Child laggard({laggard_program(), "watch", "--output", "json", "--output-file", path, "--metrics", "127.0.0.1:0",
                 "--metrics-textfile", page, "--interval", "100ms", "--stall", "1s", "--comm", comm, "--only",
                 "stalled-reader", "--heartbeat", directory_.at("beat"), "--max-cpu", "100%"});
  const std::string at = laggard.read_error_line(kDeadlineSeconds).value_or("");
  ASSERT_NE(at.rfind("/metrics"), std::string::npos) << at;
  const auto port = static_cast<std::uint16_t>(std::stoi(at.substr(at.rfind(':') + 1)));
  std::atomic<bool> is_over{false};
  std::atomic<int> scrapes{0};
  std::vector<std::jthread> scrapers;
  for (int i = 0; i < 2; i++)
    scrapers.emplace_back([&] {
      while (!is_over)
        if (scrape(port).find("laggard_ticks_total") != std::string::npos) {
          scrapes++;
          ::poll(nullptr, 0, 20);
        }
    });
  std::vector<std::string> files;
  for (const double end = now_seconds() + 6; now_seconds() < end;) {
    Sleepers sleepers{17};
    ::poll(nullptr, 0, 700);
    const std::string former = fmt::format("{}.{}", path, files.size());
    if (::rename(path.c_str(), former.c_str()) == 0)
      files.push_back(former);
    laggard.signal(SIGHUP);
    ::poll(nullptr, 0, 700);
  }
  is_over = true;
  scrapers.clear();
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_EQ(laggard.error_text(), "");
  EXPECT_GT(scrapes, 20);
  files.push_back(path);
  EXPECT_GE(files.size(), 4U);
  std::map<std::string, int> events;
  for (const std::string& file : files)
    for (const Json& line : lines_of(content(file)))
      events[line["event.name"]]++;
  EXPECT_EQ(events["laggard.agent.started"], 1);
  EXPECT_EQ(events["laggard.agent.stopped"], 1);
  EXPECT_GT(events["laggard.finding.opened"], 0);
  EXPECT_EQ(events["laggard.finding.opened"], events["laggard.finding.resolved"]);
  EXPECT_EQ(metric(content(page), "laggard_findings_opened_total"), events["laggard.finding.opened"]);
}

TEST_F(Output, a_reader_that_leaves_ends_it_quietly)
{
  Child laggard({laggard_program(), "watch", "--output", "json", "--stall", "1s"});
  ASSERT_TRUE(laggard.read_line(kDeadlineSeconds));
  laggard.close_output();
  Workload program({"never-reads"});
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_EQ(laggard.error_text(), "");
}

TEST_F(Output, one_reader_for_both_streams_that_does_not_read_delays_no_end)
{
  const std::string beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output", "json", "--heartbeat", beat}, [] {
    fill(1);
    ::dup2(1, 2);
  });
  ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 4);
}

// ---- files ----

TEST_F(Output, a_file_is_reopened_on_sighup_as_logrotate_makes_it)
{
  const std::string path = directory_.at("out"), beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output-file", path, "--heartbeat", beat});
  ASSERT_TRUE(eventually([&] { return has_event(path, "started") && !content(beat).empty(); }));
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kNobody);

  // As 'create' does it: the same mode and owner.
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
  std::ofstream{path};
  ASSERT_EQ(::chmod(path.c_str(), status.st_mode & 0777U), 0);
  ASSERT_EQ(::chown(path.c_str(), status.st_uid, status.st_gid), 0);
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  laggard.signal(SIGHUP);
  const auto is_open = [&] {
    struct stat open {};
    for (int fd = 3; fd < 64; fd++)
      if (::stat(fmt::format("/proc/{}/fd/{}", laggard.pid(), fd).c_str(), &open) == 0 && open.st_ino == status.st_ino)
        return true;
    return false;
  };
  EXPECT_TRUE(eventually(is_open));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_EQ(laggard.error_text(), "");
  EXPECT_TRUE(has_event(path + ".1", "started") && !has_event(path + ".1", "stopped"));
  EXPECT_TRUE(has_event(path, "stopped") && !has_event(path, "started"));
}

TEST_F(Output, a_file_in_a_directory_of_its_user_needs_no_help)
{
  const std::string path = directory_.at("nobodys/out"), beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output-file", path, "--heartbeat", beat});
  ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
  laggard.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return ::access(path.c_str(), F_OK) == 0; }));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_TRUE(has_event(path, "stopped"));
}

TEST_F(Output, what_cannot_be_reopened_is_said_and_the_former_file_goes_on)
{
  const std::string path = directory_.at("out"), beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output-file", path, "--heartbeat", beat});
  ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);  // 'nocreate', in root's directory
  laggard.signal(SIGHUP);
  const auto said = laggard.read_error_line(kDeadlineSeconds);
  ASSERT_TRUE(said);
  EXPECT_THAT(*said,
              testing::AllOf(HasSubstr("Permission denied"), HasSubstr("nobody"), HasSubstr("--keep-privileges")));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  EXPECT_TRUE(has_event(path + ".1", "stopped"));
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST_F(Output, with_its_privileges_it_reopens_anything)
{
  const std::string path = directory_.at("out"), beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--keep-privileges", "--output-file", path, "--heartbeat", beat});
  ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
  laggard.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return ::access(path.c_str(), F_OK) == 0; }));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
}

TEST_F(Output, a_hangup_while_it_loads_is_no_end_either)
{
  const std::string path = directory_.at("nobodys/out");
  Child laggard({laggard_program(), "watch", "--output-file", path}, [] { ::signal(SIGHUP, SIG_IGN); });
  ASSERT_TRUE(eventually([&] { return ::access(path.c_str(), F_OK) == 0; }));
  laggard.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return has_event(path, "started"); }));
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
}

TEST_F(Output, without_a_file_a_hangup_ends_it)
{
  const std::string beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output", "json", "--heartbeat", beat});
  ASSERT_TRUE(eventually([&] { return !content(beat).empty(); }));
  laggard.signal(SIGHUP);
  EXPECT_EQ(laggard.wait(), 0);
}

TEST_F(Output, a_file_that_cannot_be_opened_is_a_usage_error)
{
  for (const char* command : {"watch", "replay"}) {
    std::vector<std::string> words{laggard_program(), command, "--output-file", directory_.at("nowhere/out")};
    if (words[1] == "replay")
      words.push_back(std::string(LAGGARD_SOURCE_DIR) + "/tests/replay/slow-reader.laggard");
    Child laggard(words);
    EXPECT_EQ(laggard.wait(), 2) << command;
    EXPECT_THAT(laggard.error_text(),
                testing::AllOf(HasSubstr("--output-file"), HasSubstr("nowhere/out"), HasSubstr("No such file")));
  }
}

TEST_F(Output, a_replay_goes_to_a_file_too)
{
  const std::string path = directory_.at("out");
  Child laggard({laggard_program(), "replay", "--output-file", path,
                 std::string(LAGGARD_SOURCE_DIR) + "/tests/replay/slow-reader.laggard"});
  laggard.wait();
  EXPECT_FALSE(laggard.read_line(0));
  const auto lines = lines_of(content(path));
  ASSERT_GT(lines.size(), 2U);
  EXPECT_EQ(lines.back()["event.name"], "laggard.agent.stopped");
}

TEST_F(Output, standard_output_that_is_truncated_has_no_hole)
{
  const std::string path = directory_.at("out"), beat = directory_.at("beat");
  Child laggard({laggard_program(), "watch", "--output", "json", "--heartbeat", beat}, [&] {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);  // no O_APPEND: laggard > FILE
    ::dup2(fd, 1);
  });
  ASSERT_TRUE(eventually([&] { return has_event(path, "started"); }));
  ASSERT_EQ(::truncate(path.c_str(), 0), 0);
  laggard.signal(SIGTERM);
  EXPECT_EQ(laggard.wait(), 0);
  const std::string left = content(path);
  EXPECT_TRUE(left.starts_with('{')) << left.size() << " bytes";
  EXPECT_TRUE(has_event(path, "stopped"));
}

}  // namespace
}  // namespace laggard::test
