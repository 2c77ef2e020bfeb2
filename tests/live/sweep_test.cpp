// SPDX-License-Identifier: MIT
// Both rungs of the feed `sweep`, each forced: what they must find, that they say it once, and that they agree.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>
#include <thread>

#include "live/harness.h"
#include "source/records.h"
#include "source/live/sweep.h"

namespace laggard::test {
namespace {

constexpr const char* kStorage = "iter/bpf_sk_storage_map";
constexpr const char* kFiles = "iter/task_file+iter/tcp";

// Why this kernel does not have it; empty: it has.
const std::string& refusal(const std::string& hook)
{
  static const source::live::Availability availability = [] {
    std::vector<source::live::Candidate> sweeps;
    for (const source::live::Candidate& candidate : source::live::kCandidates)
      if (candidate.feed == "sweep")
        sweeps.push_back(candidate);
    return source::live::probe(sweeps);
  }();
  return availability.at(hook);
}

std::vector<model::SocketSample> samples_of(const model::Tick& tick, const std::function<bool(const model::SocketSample&)>& wanted)
{
  std::vector<model::SocketSample> found;
  std::ranges::copy_if(tick.sockets, std::back_inserter(found), wanted);
  return found;
}

std::vector<model::SocketSample> samples_of(const model::Tick& tick, std::uint64_t cookie)
{
  return samples_of(tick, [cookie](const model::SocketSample& sample) { return sample.cookie == cookie; });
}

// The connections that wait in the accept queue of this program.
std::vector<model::SocketSample> waiting(const model::Tick& tick, const Workload& program)
{
  return samples_of(tick, [&](const model::SocketSample& sample) {
    return sample.unaccepted && to_string(sample.tuple.local) == program.text("local") &&
           sample.netns == program.number<std::uint32_t>("netns");
  });
}

class Sweep : public testing::TestWithParam<bool> {
 protected:
  static std::string rung() { return GetParam() ? kStorage : kFiles; }
  void SetUp() override
  {
    LAGGARD_NEEDS_BPF();
    // The first one is for kernels that have no other: it must be there.
    if (rung() == kStorage && !refusal(kStorage).empty())
      GTEST_SKIP() << kStorage << ": " << refusal(kStorage);
    ASSERT_EQ(refusal(rung()), "");
  }
};

TEST_P(Sweep, finds_a_udp_socket_that_is_never_read)
{
  Workload older({"exact", "--proto", "udp"});
  older.command("send 31 101");
  Kernel kernel{rung()};
  Workload younger({"exact", "--proto", "udp", "--family", "6"});
  younger.command("send 37 103");
  const model::Tick& tick = kernel.session_tick();
  ASSERT_TRUE(tick.swept);
  for (const auto& [program, packets] : {std::pair{&older, 31U}, std::pair{&younger, 37U}}) {
    const auto samples = samples_of(tick, program->cookie());
    ASSERT_EQ(samples.size(), 1U);
    EXPECT_EQ(samples[0].transport, model::Transport::Udp);
    EXPECT_EQ(samples[0].queued_packets, packets);
    EXPECT_EQ(samples[0].reads, 0U);
    EXPECT_EQ(samples[0].owner.tgid, program->pid());
    EXPECT_EQ(samples[0].older_than_observer, program == &older);
    EXPECT_EQ(known(samples[0].opened), program == &younger);
  }
}

TEST_P(Sweep, finds_a_slow_reader_until_its_queue_is_empty)
{
  Kernel kernel{rung()};
  Workload program({"exact"});
  program.command("send 10007");
  program.command("read 1 101");
  const auto unread = [&]() -> std::optional<std::uint32_t> {
    const auto samples = samples_of(kernel.session_tick(), program.cookie());
    return samples.empty() ? std::nullopt : std::optional(samples.back().unread_bytes);
  };
  for (int i = 0; i < 5; i++)  // with and without a read in the epoch that ended
    EXPECT_EQ(unread(), 9906U);
  program.command("read-all");
  EXPECT_TRUE(eventually([&] { return !unread(); }, 10)) << "nothing to say of it any more";
}

TEST_P(Sweep, shows_a_socket_of_two_processes_once)
{
  Kernel kernel{rung()};
  Workload program({"exact"});
  program.command("send 1013");
  Fd shared{::socket(AF_INET, SOCK_DGRAM, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(shared.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::getsockname(shared.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  for (int i = 0; i < 7; i++)
    ASSERT_EQ(::sendto(shared.get(), "seven", 5, 0, reinterpret_cast<sockaddr*>(&address), length), 5);
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  ASSERT_EQ(::getsockopt(shared.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t other = ::fork();
  if (other == 0) {  // holds it, under two numbers, until we let it go
    ::close(ends[1]);
    const int again = ::dup(shared.get());
    char end = 0;
    while (::read(ends[0], &end, 1) < 0 && errno == EINTR) {
    }
    ::_exit(again < 0);
  }
  Fd read_end{ends[0]}, write_end{ends[1]};
  const auto holders = [&](const model::Tick& tick) {
    std::multiset<std::uint32_t> pids;
    for (const model::Holder& holder : tick.holders)
      if (holder.cookie == cookie)
        pids.insert(holder.process.tgid);
    return pids;
  };
  const auto me = static_cast<std::uint32_t>(::getpid()), it = static_cast<std::uint32_t>(other);
  EXPECT_TRUE(eventually([&] { return holders(kernel.tick()) == std::multiset<std::uint32_t>{me, it, it}; }, 10));
  for (const bool everything : {true, false}) {
    const auto samples = samples_of(everything ? kernel.tick() : kernel.session_tick(), cookie);
    ASSERT_EQ(samples.size(), 1U) << (everything ? "of everything" : "of what is interesting");
    EXPECT_EQ(samples[0].queued_packets, 7U);
  }
  write_end.reset();
  int status = 0;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_EQ(status, 0);
}

MonoTime mono_now()
{
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return MonoTime{std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)};
}

// By age and owner, each once; the rung over files shows the 16 that have waited longest, but all where some MPTCP listener of
// this host has any that wait.
TEST_P(Sweep, shows_what_waits_in_an_accept_queue)
{
  constexpr auto jiffies = std::chrono::milliseconds(20);  // two, of a kernel with HZ=100
  Workload older({"accept-backlog", "--count", "3"});
  Kernel kernel{rung()};
  const MonoTime before = mono_now();
  Workload few({"accept-backlog", "--count", "5", "--family", "6"});
  Workload many({"accept-backlog", "--count", "19"});
  const MonoTime after = mono_now();
  // What was sent last may be under way where the machine is busy.
  const auto is_empty = [](const model::SocketSample& child) { return child.unread_bytes == 0; };
  for (int i = 0; i < 40 && std::ranges::any_of(waiting(kernel.session_tick(), many), is_empty); i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (int round = 0; round < 3; round++) {
    const model::Tick& tick = kernel.session_tick();
    for (const auto& [program, shown, all] :
         {std::tuple{&older, 3U, 3U}, std::tuple{&few, 5U, 5U}, std::tuple{&many, rung() == kFiles ? 16U : 19U, 19U}}) {
      SCOPED_TRACE(program->text("local"));
      const auto listeners = samples_of(tick, program->cookie());
      ASSERT_EQ(listeners.size(), 1U);
      EXPECT_TRUE(listeners[0].is_listener());
      EXPECT_EQ(listeners[0].ack_backlog, all);
      EXPECT_EQ(listeners[0].owner.tgid, program->pid());
      const auto children = waiting(tick, *program);
      std::set<std::uint64_t> cookies;
      for (const model::SocketSample& child : children) {
        cookies.insert(child.cookie);
        EXPECT_EQ(child.unread_bytes, 17U);
        EXPECT_FALSE(child.has_file);
        EXPECT_TRUE(child.accepted);
        EXPECT_EQ(child.older_than_observer, program == &older);
        if (program == &older) {
          EXPECT_FALSE(known(child.opened));
          continue;
        }
        EXPECT_EQ(child.owner.tgid, program->pid());
        EXPECT_GE(child.opened, before - jiffies);
        EXPECT_LE(child.opened, after + jiffies);
      }
      EXPECT_TRUE(children.size() == shown || children.size() == all) << children.size();
      EXPECT_EQ(cookies.size(), children.size());
    }
  }
}

// More than an iterator's buffer holds at a time: a listener that does not fit is asked for again, with all that waits there.
TEST_P(Sweep, misses_nobody_at_the_end_of_a_buffer)
{
  Kernel kernel{rung()};
  std::vector<std::unique_ptr<Workload>> programs;
  for (int i = 0; i < 11; i++)
    programs.push_back(std::make_unique<Workload>(std::vector<std::string>{"accept-backlog", "--count", "13"}));
  const model::Tick& tick = kernel.session_tick();
  for (const auto& program : programs) {
    std::multiset<std::uint64_t> cookies;
    for (const model::SocketSample& child : waiting(tick, *program))
      cookies.insert(child.cookie);
    EXPECT_EQ(cookies.size(), 13U);
    EXPECT_EQ(std::set(cookies.begin(), cookies.end()).size(), 13U);
    EXPECT_EQ(samples_of(tick, program->cookie()).size(), 1U);
  }
}

// Connections older than laggard that wait in another network namespace: only the rung over files gets there.
TEST_P(Sweep, files_lead_to_accept_queues_of_other_namespaces)
{
  if (rung() != kFiles)
    GTEST_SKIP() << "no iterator that finds them";
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can make a network namespace";
  Workload program({"accept-backlog", "--count", "7", "--netns"});
  Kernel kernel{rung()};
  const auto children = waiting(kernel.session_tick(), program);
  EXPECT_EQ(children.size(), 7U);
  for (const model::SocketSample& child : children)
    EXPECT_TRUE(child.older_than_observer);
}

INSTANTIATE_TEST_SUITE_P(Rung, Sweep, testing::Bool(), [](const auto& by_storage) { return by_storage.param ? "storage" : "files"; });

TEST(SweepRungs, agree)
{
  LAGGARD_NEEDS_BPF();
  if (!refusal(kStorage).empty())
    GTEST_SKIP() << kStorage << ": " << refusal(kStorage);
  Workload older({"exact", "--family", "6"}), older_udp({"exact", "--proto", "udp"}), older_backlog({"accept-backlog"});
  older.command("send 1013");
  older_udp.command("send 11 101");
  Kernel storage{kStorage}, files{kFiles};
  Workload reader({"exact"}), ended({"exact"}), udp({"exact", "--proto", "udp"}), backlog({"accept-backlog"});
  reader.command("send 10007");
  reader.command("read 13 101");
  ended.command("send-fin 103");
  udp.command("send 31 101");
  udp.command("read 7 101");
  std::set<std::string> ports;
  for (const Workload* program : {&older, &older_udp, &older_backlog, &reader, &ended, &udp, &backlog})
    ports.insert(program->text("local"));

  using Facts = std::vector<std::uint64_t>;
  const auto facts = [&](Kernel& kernel) {
    std::map<std::uint64_t, Facts> told;
    for (const model::SocketSample& sample : kernel.tick().sockets)
      if (ports.contains(to_string(sample.tuple.local)))
        told[sample.cookie] = {static_cast<std::uint64_t>(sample.state), sample.tuple.peer.port, sample.unread_bytes,
                               sample.queued_packets, sample.rcv_nxt, sample.copied_seq, sample.reads, sample.read_bytes,
                               sample.leftover_bytes, sample.owner.tgid, sample.reader_tgid, sample.inode, sample.ack_backlog,
                               sample.unaccepted, sample.has_file, sample.older_than_observer, sample.accepted,
                               sample.peer_closed, sample.fin_unread, known(sample.opened), known(sample.last_read)};
    return told;
  };
  const auto of_storage = facts(storage), of_files = facts(files);
  EXPECT_EQ(of_storage, of_files);
  EXPECT_EQ(of_storage.size(), 7U + 3 + 3 + 3);  // those that wait, and the listeners of what was accepted
}

// Where one look is too dear for one tick: by the page, each slice once more later, and nobody is missed or shown too often.
TEST(Slices, show_each_socket_once_in_a_sweep_and_once_again)
{
  LAGGARD_NEEDS_BPF();
  std::vector<std::unique_ptr<Workload>> programs;
  for (int i = 0; i < 13; i++)
    programs.push_back(std::make_unique<Workload>(std::vector<std::string>{"accept-backlog", "--count", "13"}));
  auto loaded = source::live::load_best({{"sweep", kFiles}});
  ASSERT_TRUE(loaded) << loaded.error().message();
  loaded->skeleton->bss->states_left = 1'000'000;
  source::RawTick seeded;
  ASSERT_TRUE(source::live::walk(loaded->skeleton->links.holders, seeded));

  std::set<std::string> ports;
  for (const auto& program : programs)
    ports.insert(program->text("local"));
  std::set<std::uint64_t> ours;
  std::map<std::uint64_t, int> first, again;
  source::live::Sweep sweep{loaded->skeleton, Duration{}};
  int steps = 0;
  source::live::Sweep::Step latest;
  const auto step = [&] {
    laggard_tick_record head{};
    head.header = {LAGGARD_RECORD_TICK, sizeof head, ++loaded->skeleton->bss->epoch};
    source::RawTick raw;
    source::append(raw, head);
    const auto stepped = sweep.go_on(MonoTime{std::chrono::seconds(1000 + steps++)}, {.at_most = Duration{}, .new_at_most = 1'000'000}, raw);
    ASSERT_TRUE(stepped) << stepped.error().message();
    const auto tick = source::decode(raw);
    ASSERT_TRUE(tick);
    latest = *stepped;
    EXPECT_TRUE(!latest.looked_again || tick->holders.empty()) << "who holds them need not be asked twice";
    std::map<std::uint64_t, int>& shown = latest.looked_again ? again : first;
    for (const model::SocketSample& sample : samples_of(*tick, [&](const auto& one) { return ports.contains(to_string(one.tuple.local)); })) {
      ours.insert(sample.cookie);
      shown[sample.cookie]++;
    }
    for (const model::StillSample& sample : tick->still)
      if (ours.contains(sample.cookie))
        shown[sample.cookie]++;
  };
  while (!latest.ended && steps < 1000)
    ASSERT_NO_FATAL_FAILURE(step());
  EXPECT_GT(steps, 2);
  EXPECT_EQ(latest.began, MonoTime{std::chrono::seconds(1000)});
  ASSERT_NO_FATAL_FAILURE(step());
  EXPECT_TRUE(latest.looked_again) << "at the last slice";
  EXPECT_EQ(ours.size(), programs.size() * 14);
  for (const std::uint64_t cookie : ours) {
    EXPECT_EQ(first[cookie], 1) << cookie;
    EXPECT_EQ(again[cookie], 1) << cookie;
  }
  // Now that all are known they fit into one page, and the next one is empty.
  const int before = steps;
  for (latest = {}; !latest.ended;)
    ASSERT_NO_FATAL_FAILURE(step());
  EXPECT_LE(steps - before, 3);
}

}  // namespace
}  // namespace laggard::test
