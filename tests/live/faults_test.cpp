// SPDX-License-Identifier: MIT
// Faults of the machine around laggard: what it loses by them, and that it says so (CONTRIBUTING.md, "Faults").
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "live/faults.h"

namespace laggard::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void wait_for(double seconds) { ::poll(nullptr, 0, static_cast<int>(seconds * 1000)); }

std::uint64_t number(const Json& line, const std::string& key) { return line.value(key, std::uint64_t{0}); }

std::string said(const Json& line) { return line["message"].get<std::string>(); }

// How many lines are about a process of this name, whoever it is.
std::ptrdiff_t lines_about(const Observer& laggard, const std::string& comm)
{
  return std::ranges::count_if(laggard.lines(), [&](const Json& line) { return line.value("process.executable.name", "") == comm; });
}

// ---- what the kernel side has no room for ----

TEST_F(Faults, ring_full)
{
  if (is_quick())
    GTEST_SKIP() << "too many connections for an emulated machine";
  // More ends of connections than the ring has room for (32 bytes each, 1 MiB), while nobody empties it.
  constexpr unsigned kConnections = 40'000;
  Observer laggard({"watch", "--stall", "2s", "--max-cpu", "100%"});
  laggard.wait_started();
  std::optional<std::uint64_t> open;
  {
    Workload load({"stalled", std::to_string(kConnections), "--bytes", "101", "--processes", "3"}, load_program());
    ASSERT_TRUE(laggard.wait_for([&](const Json& line) {
      if (line.value("laggard.finding.kind", "") != "stalled-reader" || line.value("process.executable.name", "") != "load-reader")
        return false;
      open = number(line, "laggard.finding.count");
      return true;
    }));
    laggard.child().signal(SIGSTOP);
  }
  laggard.child().signal(SIGCONT);
  const auto degraded = wait_for_degraded(laggard, "the ring was full");
  ASSERT_TRUE(degraded);
  const std::uint64_t lost = number(*degraded, "laggard.loss.ring_full");
  EXPECT_GT(lost, 1000U);
  // Whose end was lost is missed by the next sweep.
  EXPECT_TRUE(laggard.wait_for([](const Json& line) {
    return line["event.name"] == "laggard.finding.resolved" && line.value("process.executable.name", "") == "load-reader";
  }));
  EXPECT_EQ(laggard.stop(), 4);
  EXPECT_EQ(laggard.lines().back()["laggard.agent.incomplete"], true);
  EXPECT_GE(number(laggard.lines().back(), "laggard.loss.ring_full"), lost);
  row(fmt::format("{} connections end while laggard is stopped: the ring is full", kConnections),
      fmt::format("{} records; the next sweep misses their sockets, the finding is resolved", lost),
      fmt::format("\"{}\", exit code 4", said(*degraded)));
}

TEST_F(Faults, map_full)
{
  // The kernel grants a socket so much memory for all of its options and storages, by network namespace since 6.9.
  Observer laggard({"watch", "--stall", "2s", "--max-cpu", "100%", "--loss-limit", "0"});
  laggard.wait_started();
  Shared& sockets = make_shared_counters();
  constexpr std::uint64_t kSockets = 7;
  Player poor{"poor", [&] {
    std::ofstream limit;
    if (enter_network())
      limit.open("/proc/sys/net/core/optmem_max");
    if (!(limit << "64" << std::flush)) {
      sockets.failed++;
      return;
    }
    for (; sockets.done < kSockets; sockets.done++)
      if (unread_datagram() < 0)
        return;
    ::pause();
  }};
  ASSERT_TRUE(eventually([&] { return sockets.failed > 0 || sockets.done == kSockets; }));
  if (sockets.failed > 0)
    GTEST_SKIP() << "this kernel has one limit for all network namespaces (before 6.9), or lets us have none";
  const auto degraded = wait_for_degraded(laggard, "could not be tracked");
  ASSERT_TRUE(degraded);
  laggard.observe_for(5);
  EXPECT_EQ(laggard.stop(), 4);
  EXPECT_GE(number(laggard.lines().back(), "laggard.loss.no_storage"), kSockets);
  const auto times = std::ranges::count_if(laggard.lines(), [](const Json& line) { return line["event.name"] == "laggard.agent.degraded"; });
  EXPECT_LE(times, 2) << "once is enough";
  row(fmt::format("no room for the state of {} sockets (net.core.optmem_max)", kSockets), fmt::format("{} sockets", kSockets),
      fmt::format("\"{}\", exit code 4 with --loss-limit 0", said(*degraded)));
}

// ---- looks that are disturbed ----

std::atomic<std::uint64_t> alarms{0};

TEST_F(Faults, iterator_interrupted)
{
  // More than one read(2) takes; each is a socket with something unread.
  const std::size_t sockets = is_quick() ? 300 : 5000;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_GT(limit.rlim_max, sockets + 100);
  std::set<std::uint64_t> cookies;
  for (std::size_t i = 0; i < sockets; i++) {
    const int fd = unread_datagram();
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    ASSERT_EQ(::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
    cookies.insert(cookie);
  }
  Kernel kernel;
  struct sigaction action {};
  action.sa_handler = [](int) { alarms++; };
  ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);  // no SA_RESTART
  const itimerval often{{0, 200}, {0, 200}};
  std::size_t sweeps = 0;
  for (const double end = now_seconds() + 4; now_seconds() < end; sweeps++) {
    ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
    const model::Tick& tick = kernel.tick();
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ASSERT_TRUE(tick.swept);
    std::set<std::uint64_t> shown;
    for (const model::FullSample& sample : tick.sockets) {
      const bool is_new = !cookies.contains(sample.cookie) || shown.insert(sample.cookie).second;
      EXPECT_TRUE(is_new) << "shown twice";
    }
    ASSERT_EQ(shown.size(), cookies.size());
  }
  EXPECT_GT(sweeps, 5U);
  EXPECT_GT(alarms, sweeps * 2);
  row(fmt::format("{} signals during {} sweeps of {} sockets", alarms.load(), sweeps, cookies.size()), "nothing: each is shown once", "nothing");
}

TEST_F(Faults, network_namespaces_come_and_go)
{
  if (is_quick())
    GTEST_SKIP() << "too many namespaces for an emulated machine";
  Observer laggard({"watch", "--stall", "2s", "--idle", "3s", "--max-cpu", "100%"});
  laggard.wait_started();
  Workload guilty({"never-reads", "--netns"});
  Shared& spaces = make_shared_counters();
  double rate = 0;
  {
    Player player{"netns-churn", [&] {
      for (int alive = 0;; wait_for(0.008)) {
        for (; ::waitpid(-1, nullptr, WNOHANG) > 0; alive--) {
        }
        if (alive >= 50)
          continue;
        alive++;
        if (::fork() != 0)
          continue;
        const bool ok = enter_network() && unread_datagram() >= 0 && unread_stream() >= 0;
        (ok ? spaces.done : spaces.failed)++;
        wait_for(0.3);
        ::_exit(0);
      }
    }};
    const double begun = now_seconds();
    laggard.observe_for(8);
    rate = static_cast<double>(spaces.done) / (now_seconds() - begun);
  }
  EXPECT_EQ(spaces.failed, 0U);
  EXPECT_GT(rate, 20);
  const auto found = laggard.wait_for_finding("stalled-reader", guilty.pid());
  ASSERT_TRUE(found);
  EXPECT_EQ((*found)["laggard.socket.netns"], guilty.number<std::uint64_t>("netns"));
  EXPECT_EQ(laggard.stop(), 0);
  EXPECT_EQ(lines_about(laggard, "netns-churn"), 0);
  row(fmt::format("{:.0f} network namespaces per second, each with three sockets, live for 0.3 s", rate), "nothing",
      "the finding in a namespace that stays, nothing else");
}

TEST_F(Faults, processes_exit_while_looked_at)
{
  if (is_quick())
    GTEST_SKIP() << "too many processes for an emulated machine";
  Observer laggard({"watch", "--stall", "2s", "--command-line", "--interval", "200ms", "--max-cpu", "100%"});
  laggard.wait_started();
  Workload guilty({"never-reads"});
  Shared& exits = make_shared_counters();
  double rate = 0;
  {
    const auto exit_and_again = [&] {
      for (;;) {
        if (const pid_t pid = ::fork(); pid == 0) {
          const bool ok = unread_datagram() >= 0 && unread_stream() >= 0;
          (ok ? exits.done : exits.failed)++;
          ::_exit(0);
        } else {
          ::waitpid(pid, nullptr, 0);
        }
      }
    };
    Player one{"exit-churn", exit_and_again}, other{"exit-churn", exit_and_again};
    const double begun = now_seconds();
    laggard.observe_for(6);
    rate = static_cast<double>(exits.done) / (now_seconds() - begun);
  }
  EXPECT_GT(rate, 100);
  EXPECT_EQ(exits.failed, 0U);
  EXPECT_TRUE(laggard.wait_for_finding("stalled-reader", guilty.pid()));
  EXPECT_EQ(laggard.stop(), 0);
  EXPECT_EQ(lines_about(laggard, "exit-churn"), 0);
  row(fmt::format("{:.0f} processes per second exit with unread sockets, looked at 5 times a second", rate), "nothing",
      "the finding of a program that stays, nothing else");
}

// ---- time ----

TEST_F(Faults, clock_steps)
{
  if (std::getenv("LAGGARD_LIVE_MAY_STEP_CLOCK") == nullptr)
    GTEST_SKIP() << "steps the clock of the whole machine: only within one of scripts/kernels/matrix";
  Observer laggard({"watch", "--stall", "2s", "--max-cpu", "100%"});
  laggard.wait_started();
  Workload program({"never-reads"});
  const auto found = laggard.wait_for_finding("stalled-reader", program.pid());
  ASSERT_TRUE(found);
  const auto step = [&](time_t by) {
    timespec now{};
    ASSERT_EQ(::clock_gettime(CLOCK_REALTIME, &now), 0);
    now.tv_sec += by;
    ASSERT_EQ(::clock_settime(CLOCK_REALTIME, &now), 0);
  };
  const std::size_t before = laggard.findings(program.pid()).size();
  step(3600);
  // Updates come after 10 and 20 s.
  EXPECT_TRUE(eventually([&] { laggard.observe_for(1); return laggard.findings(program.pid()).size() > before; }));
  step(-3 * 3600);
  EXPECT_TRUE(eventually([&] { laggard.observe_for(1); return laggard.findings(program.pid()).size() > before + 1; }));
  step(2 * 3600);
  EXPECT_EQ(laggard.stop(), 0);
  const auto lines = laggard.findings(program.pid());
  ASSERT_GE(lines.size(), 4U);
  for (const Json& line : lines) {
    const double since = line["test.arrived"].get<double>() - (*found)["test.arrived"].get<double>();
    const double older = line["laggard.finding.duration_seconds"].get<double>() - (*found)["laggard.finding.duration_seconds"].get<double>();
    EXPECT_NEAR(older, since, 5) << line;
    EXPECT_FALSE(line.contains("laggard.quality.unobserved_seconds"));
  }
  row("the clock steps by +1 h, -3 h, +2 h (in an emulated machine)", "nothing: durations and ages go on", "nothing");
}

TEST_F(Faults, stopped_for_a_while)
{
  constexpr double kStopped = 12;
  const Directory directory;
  const std::string page = directory.at("nobodys/laggard.prom"), recording = directory.at("stopped.laggard");
  Observer laggard({"watch", "--stall", "3s", "--max-cpu", "100%", "--metrics-textfile", page});
  Child text({laggard_program(), "watch", "--output", "text", "--stall", "3s", "--max-cpu", "100%"});
  Child recorder({laggard_program(), "record", recording});
  laggard.wait_started();
  Workload guilty({"never-reads"}), batch({"batch"}), bulk({"bulk", "--rate", "5000000"});
  const auto found = laggard.wait_for_finding("stalled-reader", guilty.pid());
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->contains("laggard.quality.unobserved_seconds"));
  const auto later_than = [](const std::string& path, std::uintmax_t bytes) {
    std::error_code none;
    return fs::file_size(path, none) > bytes && !none;
  };
  ASSERT_TRUE(eventually([&] { return later_than(recording, 4096); }));
  const auto each = {&laggard.child(), &text, &recorder};
  for (const Child* child : each)
    child->signal(SIGSTOP);
  wait_for(kStopped);
  for (const Child* child : each)
    child->signal(SIGCONT);
  const auto degraded = wait_for_degraded(laggard, "nothing was looked at for");
  ASSERT_TRUE(degraded);
  const double gap = degraded->value("laggard.loss.unobserved_seconds", 0.0);
  EXPECT_GE(gap, kStopped - 0.1);
  EXPECT_LT(gap, kStopped + 5);
  EXPECT_TRUE(eventually([&] { return std::abs(metric(content(page), "laggard_unobserved_seconds_total") - gap) < 1; }));
  laggard.observe_for(3);
  EXPECT_EQ(laggard.stop(), 4);
  EXPECT_GE(laggard.lines().back().value("laggard.loss.unobserved_seconds", 0.0), gap);
  const Json last = laggard.findings(guilty.pid()).back();
  EXPECT_EQ(last["event.name"], "laggard.finding.resolved");
  EXPECT_NEAR(last.value("laggard.quality.unobserved_seconds", 0.0), gap, 0.1);
  EXPECT_TRUE(laggard.findings(batch.pid()).empty()) << laggard.findings(batch.pid()).front();
  EXPECT_TRUE(laggard.findings(bulk.pid()).empty()) << laggard.findings(bulk.pid()).front();

  text.signal(SIGTERM);
  EXPECT_EQ(text.wait(), 4);
  EXPECT_THAT(text.error_text(), HasSubstr("nothing was looked at for"));
  recorder.signal(SIGTERM);
  EXPECT_EQ(recorder.wait(), 4);
  EXPECT_THAT(recorder.error_text(), HasSubstr("nothing looked at for"));
  Child replay({laggard_program(), "replay", "--output", "json", recording});
  double replayed = 0;
  while (const auto line = replay.read_line(kDeadlineSeconds))
    if (const Json json = Json::parse(*line); json["event.name"] == "laggard.agent.degraded")
      replayed = std::max(replayed, json.value("laggard.loss.unobserved_seconds", 0.0));
  EXPECT_EQ(replay.wait(), 4);
  EXPECT_NEAR(replayed, gap, 2);
  row(fmt::format("SIGSTOP of watch and record for {:.0f} s", kStopped), fmt::format("{:.1f} s; no finding, no innocent accused", gap),
      fmt::format("\"{}\", exit code 4, also in text, metrics, the replay and the finding that was open", said(*degraded)));
}

// ---- the end ----

struct Objects {
  std::set<std::uint32_t> programs, maps, links;
  std::size_t size() const { return programs.size() + maps.size() + links.size(); }
};

// BPF objects that a process holds.
Objects objects_of(pid_t pid)
{
  Objects objects;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fdinfo", pid), none)) {
    std::ifstream file{entry.path()};
    bool is_link = false;
    for (std::string line; std::getline(file, line);) {
      const auto value = [&] { return static_cast<std::uint32_t>(std::stoul(line.substr(line.find(':') + 1))); };
      if (line.starts_with("link_id:"))
        is_link = objects.links.insert(value()).second;
      if (line.starts_with("prog_id:"))
        objects.programs.insert(value());
      if (line.starts_with("map_id:") && !is_link)
        objects.maps.insert(value());
    }
  }
  return objects;
}

std::size_t alive(const Objects& objects)
{
  std::size_t count = 0;
  const auto add = [&](const std::set<std::uint32_t>& ids, int (*open)(__u32)) {
    for (const std::uint32_t id : ids)
      count += Fd{open(id)} ? 1U : 0U;
  };
  add(objects.programs, bpf_prog_get_fd_by_id);
  add(objects.maps, bpf_map_get_fd_by_id);
  add(objects.links, bpf_link_get_fd_by_id);
  return count;
}

std::set<std::string> pinned()
{
  std::set<std::string> paths;
  std::error_code none;
  for (const auto& entry : fs::recursive_directory_iterator("/sys/fs/bpf", none))
    paths.insert(entry.path());
  return paths;
}

TEST_F(Faults, killed)
{
  const auto before = pinned();
  Objects objects;
  {
    Observer laggard({"watch", "--stall", "2s", "--max-cpu", "100%"});
    laggard.wait_started();
    objects = objects_of(laggard.child().pid());
    ASSERT_GT(objects.programs.size(), 5U);
    ASSERT_GT(objects.links.size(), 3U);
    ASSERT_GT(objects.maps.size(), 3U);
    ASSERT_EQ(alive(objects), objects.size());
    laggard.child().signal(SIGKILL);
    EXPECT_EQ(laggard.child().wait(), 128 + SIGKILL);
  }
  EXPECT_TRUE(eventually([&] { return alive(objects) == 0; })) << alive(objects) << " of " << objects.size() << " are left";
  EXPECT_EQ(pinned(), before);
  // And nothing is in the way of the next one.
  Observer again({"watch", "--stall", "2s", "--max-cpu", "100%"});
  again.wait_started();
  Workload program({"never-reads"});
  EXPECT_TRUE(again.wait_for_finding("stalled-reader", program.pid()));
  EXPECT_EQ(again.stop(), 0);
  row("kill -9", fmt::format("all {} programs, {} links and {} maps: nothing stays attached, nothing was pinned", objects.programs.size(),
                             objects.links.size(), objects.maps.size()), "nothing; the next one starts as ever");
}

// ---- memory ----

// A group of its own with a limit; v1, or v2 where the memory controller is handed down.
class MemoryGroup {
 public:
  explicit MemoryGroup(std::uint64_t limit)
  {
    const bool is_v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers");
    path_ = fmt::format("{}/laggard-faults-{}", is_v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", ::getpid());
    std::error_code none;
    fs::create_directory(path_, none);
    limits_ = set(is_v2 ? "memory.max" : "memory.limit_in_bytes", std::to_string(limit));
    most_ = is_v2 ? "memory.peak" : "memory.max_usage_in_bytes";
  }
  ~MemoryGroup() { ::rmdir(path_.c_str()); }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  bool limits() const { return limits_; }
  void enter() const { static_cast<void>(set("cgroup.procs", std::to_string(::getpid()))); }
  std::string most() const { return content(path_ + "/" + most_); }

 private:
  bool set(const std::string& file, const std::string& text) const
  {
    std::ofstream stream{path_ + "/" + file};
    return static_cast<bool>(stream << text << std::flush);
  }
  std::string path_, most_;
  bool limits_ = false;
};

TEST_F(Faults, little_memory)
{
  if (is_quick())
    GTEST_SKIP() << "too many connections for an emulated machine";
  constexpr std::uint64_t kLimit = 64 << 20;
  constexpr unsigned kConnections = 60'000;
  const MemoryGroup group{kLimit};
  if (!group.limits())
    GTEST_SKIP() << "no cgroup with a memory limit can be made here";
  const Directory directory;
  const std::string page = directory.at("nobodys/laggard.prom");
  Observer laggard({"watch", "--max-cpu", "10%", "--metrics-textfile", page}, [&] { group.enter(); });
  laggard.wait_started();
  Workload load({"stalled", std::to_string(kConnections), "--bytes", "101", "--processes", "4"}, load_program());
  const auto degraded = wait_for_degraded(laggard, "--max-memory", 120);
  ASSERT_TRUE(degraded) << "exit code " << laggard.stop();
  const auto untracked = wait_for_degraded(laggard, "could not be tracked");
  ASSERT_TRUE(untracked);
  EXPECT_TRUE(laggard.wait_for([](const Json& line) {
    return line.value("laggard.finding.kind", "") == "stalled-reader" && line.value("process.executable.name", "") == "load-reader";
  }, 120));
  EXPECT_EQ(::kill(laggard.child().pid(), 0), 0);
  EXPECT_TRUE(eventually([&] { return metric(content(page), "laggard_sockets_evicted_total") > 0; }));
  const double evicted = metric(content(page), "laggard_sockets_evicted_total"), lost = metric(content(page), "laggard_lost_total");
  const std::string most = group.most();
  EXPECT_EQ(laggard.stop(), 4);
  EXPECT_EQ(laggard.lines().back()["laggard.agent.incomplete"], true);
  row(fmt::format("{} stuck connections, 64 MiB for laggard by its cgroup", kConnections),
      fmt::format("{:.0f} connections are not judged, {:.0f} attempts to track one are refused; at most {} MiB were used", evicted, lost, std::stoull(most) >> 20),
      fmt::format("\"{}\"; \"{}\", exit code 4; the finding is there", said(*untracked), said(*degraded)));
}

double median(std::vector<double> values)
{
  std::ranges::sort(values);
  return values.at(values.size() / 2);
}

// For 25 s, or LAGGARD_SOAK_SECONDS: 1800 is the long form.
TEST_F(Faults, churn_transfers_and_leaks)
{
  if (is_quick())
    GTEST_SKIP() << "too much for an emulated machine";
  const char* asked = std::getenv("LAGGARD_SOAK_SECONDS");
  const double duration = asked != nullptr ? std::atof(asked) : 25;
  Observer laggard({"watch", "--stall", "2s", "--idle", "3s"});
  laggard.wait_started();
  std::vector<double> mib;
  std::size_t leaks = 0;
  {
    Workload churn({"churn", "1"}, load_program()), transfers({"busy", "500", "--every-ms", "200"}, load_program());
    const double begun = now_seconds();
    while (now_seconds() - begun < duration) {
      Workload leak({"leak-conns", "--count", "200"});
      leaks++;
      for (int i = 0; i < 5; i++) {
        laggard.observe_for(1);
        if (now_seconds() - begun > 8)  // by then all kinds of things have been there
          mib.push_back(static_cast<double>(rss_bytes(static_cast<std::uint32_t>(laggard.child().pid()))) / (1 << 20));
      }
    }
  }
  const auto third = static_cast<std::ptrdiff_t>(mib.size() / 3);
  ASSERT_GE(third, 3);
  const double before = median({mib.begin(), mib.begin() + third}), after = median({mib.end() - third, mib.end()});
  EXPECT_LT(after - before, std::max(1.0, before / 20)) << "RSS grows";
  const int exit_code = laggard.stop();
  EXPECT_EQ(exit_code, 0) << laggard.lines().back();
  EXPECT_TRUE(std::ranges::any_of(laggard.lines(), [](const Json& line) { return line.value("laggard.finding.kind", "") == "stalled-reader"; }));
  row(fmt::format("{:.0f} s of churn, transfers and {} leaks of 200 connections", duration, leaks),
      fmt::format("{} records; RSS {:.1f} MiB, then {:.1f} MiB", number(laggard.lines().back(), "laggard.quality.lost_records"), before, after),
      fmt::format("the leaks, exit code {}", exit_code));
}

}  // namespace
}  // namespace laggard::test
