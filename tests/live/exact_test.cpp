// SPDX-License-Identifier: MIT
// The kernel side's numbers against programs that do an exact, prime number of things. Each test also fails if the hook
// behind its number does not fire at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "live/harness.h"
#include "model/statistics.h"

namespace laggard::test {
namespace {

class Exact : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { LAGGARD_NEEDS_BPF(); }
  static Workload exact(std::vector<std::string> more = {})
  {
    more.insert(more.begin(), {"exact", "--family", GetParam()});
    return Workload(more);
  }
  static std::uint64_t value(const Facts& facts, const char* key) { return std::stoull(facts.at(key)); }
};

std::uint64_t histogram_total(const model::FullSample& sample)
{
  return std::accumulate(sample.sizes.begin(), sample.sizes.end(), std::uint64_t{0});
}

TEST_P(Exact, counts_reads_bytes_and_sizes)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 10007");
  program.command("read 101 13");
  program.command("read 3 2003");
  const Facts stat = program.command("read 1 17");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->reads, 105U);
  EXPECT_EQ(sample->read_bytes, 101U * 13 + 3 * 2003 + 17);
  EXPECT_EQ(sample->unread_bytes, 10007U - (101 * 13 + 3 * 2003 + 17));
  EXPECT_EQ(sample->unread_bytes, value(stat, "siocinq"));
  // The run of 17 is still open; 13 and 2003 have been accounted.
  EXPECT_EQ(sample->sizes[3], 101U);
  EXPECT_EQ(sample->sizes[10], 3U);
  EXPECT_EQ(histogram_total(*sample), 104U);
  EXPECT_EQ(sample->run_bytes, 17U);
  EXPECT_EQ(sample->run_reads, 1U);
  EXPECT_EQ(sample->reader_tgid, program.pid());
  EXPECT_EQ(sample->tuple.local.address.is_ipv6, GetParam() == "6");
}

TEST_P(Exact, epoch_minimum_and_maximum_are_exact)
{
  Kernel kernel;
  Workload program = exact();
  kernel.tick();
  program.command("send 5003");
  program.command("read 4 1009");  // leaves 3994 2985 1976 967
  program.command("send 211");     // 1178
  program.command("read 1 5");     // 1173
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->min_unread_bytes, 967U);
  EXPECT_EQ(sample->max_unread_bytes, 5003U);
  // The next epoch starts afresh.
  program.command("read 1 7");
  const auto next = kernel.look(program.cookie());
  ASSERT_TRUE(next);
  EXPECT_EQ(next->min_unread_bytes, 1166U);
  EXPECT_EQ(next->max_unread_bytes, 1173U);
  EXPECT_GT(next->read_epoch, sample->read_epoch);
}

TEST_P(Exact, peek_takes_nothing)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 1009");
  program.command("read 1 2");
  program.command("peek 7 101");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->reads, 1U);
  EXPECT_EQ(sample->read_bytes, 2U);
  EXPECT_EQ(sample->unread_bytes, 1007U);
}

TEST_P(Exact, eagain_proves_emptiness)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 31");
  program.command("read 1 31");
  program.command("read-eagain");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->reads, 1U);
  EXPECT_EQ(sample->empty_reads, 1U);
  EXPECT_EQ(sample->min_unread_bytes, 0U);
  EXPECT_EQ(sample->max_unread_bytes, 31U);
}

// rcv_nxt counts a queued FIN as one byte; SIOCINQ does not.
TEST_P(Exact, a_queued_fin_is_not_payload)
{
  Kernel kernel;
  Workload program = exact();
  const Facts stat = program.command("send-fin 10");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(value(stat, "siocinq"), 10U);
  EXPECT_EQ(sample->unread_bytes, 10U);
  EXPECT_EQ(sample->rcv_nxt - sample->copied_seq, 10U);
  EXPECT_EQ(sample->state, model::TcpState::CloseWait);
  EXPECT_TRUE(sample->peer_closed);
  EXPECT_TRUE(known(sample->peer_closed_at));
  EXPECT_FALSE(sample->eof_seen);
  EXPECT_FALSE(sample->eof_eaten);
}

TEST_P(Exact, end_of_file_is_seen_when_a_read_returns_0)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 103");
  program.command("read 1 103");
  program.command("peer-fin");
  auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_FALSE(sample->eof_seen);
  program.command("read 1 100");
  sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_TRUE(sample->eof_seen);
  EXPECT_EQ(sample->reads, 1U);  // the read of nothing is no read of data
}

TEST_P(Exact, data_and_fin_eaten_by_one_read_are_told_apart)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send-fin 107");
  program.command("read 1 4096");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_TRUE(sample->eof_eaten);
  EXPECT_FALSE(sample->eof_seen);
  EXPECT_EQ(sample->unread_bytes, 0U);
}

// A queued FIN says by copied_seq whether a read has passed it, also if that was before we came.
TEST_P(Exact, the_end_of_file_of_a_connection_older_than_the_observer)
{
  Workload never = exact(), empty = exact(), read = exact();
  never.command("send-fin 107");
  empty.command("peer-fin");
  read.command("send 103");
  read.command("read 1 103");
  read.command("peer-fin");
  read.command("read 1 100");
  Kernel kernel;
  for (const auto& [program, has_read] : {std::pair{&never, false}, std::pair{&empty, false}, std::pair{&read, true}}) {
    const auto sample = kernel.look(program->cookie());
    ASSERT_TRUE(sample);
    EXPECT_EQ(sample->state, model::TcpState::CloseWait);
    EXPECT_TRUE(sample->older_than_observer);
    EXPECT_FALSE(known(sample->peer_closed_at));
    EXPECT_EQ(sample->has_read_end(), has_read);
  }
  empty.command("read 1 100");
  const auto sample = kernel.look(empty.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->has_read_end(), true);
}

TEST_P(Exact, what_a_read_leaves_behind_is_told_until_more_comes)
{
  Kernel kernel;
  Workload program = exact();
  const auto left = [&] {
    const auto sample = kernel.look(program.cookie());
    return sample ? std::pair(sample->leftover_bytes, sample->unread_bytes) : std::pair(~0U, ~0U);
  };
  program.command("send 5003");
  EXPECT_EQ(left(), std::pair(0U, 5003U));  // nobody has read
  program.command("read 1 1009");
  EXPECT_EQ(left(), std::pair(3994U, 3994U));
  program.command("peek 3 101");
  EXPECT_EQ(left(), std::pair(3994U, 3994U));
  program.command("send 211");
  EXPECT_EQ(left(), std::pair(0U, 4205U));
  program.command("read 1 7");
  EXPECT_EQ(left(), std::pair(4198U, 4198U));
  program.command("read-all");
  EXPECT_EQ(left(), std::pair(0U, 0U));
}

// splice does not pass sock_recvmsg: copied_seq moves, the histogram of user reads does not.
TEST_P(Exact, splice_consumes_without_a_read)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 20011");
  program.command("read 1 11");
  const auto before = kernel.look(program.cookie());
  program.command("splice 10007");
  const auto after = kernel.look(program.cookie());
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->copied_seq - before->copied_seq, 10007U);
  EXPECT_EQ(after->unread_bytes, 20011U - 11 - 10007);
  EXPECT_EQ(after->reads, 1U);
}

TEST_P(Exact, udp_counts_datagrams)
{
  Kernel kernel;
  Workload program = exact({"--proto", "udp"});
  program.command("send 31 101");
  auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->transport, model::Transport::Udp);
  EXPECT_EQ(sample->queued_packets, 31U);
  EXPECT_EQ(sample->rcv_nxt - sample->copied_seq, 31U);
  EXPECT_GE(sample->unread_bytes, 31U * 101);  // kernel memory, as ss shows it
  program.command("read 7 101");
  program.command("recvmmsg 5 101");
  sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->queued_packets, 19U);
  EXPECT_EQ(sample->reads, 12U);
  EXPECT_EQ(sample->read_bytes, 12U * 101);
  EXPECT_EQ(sample->rcv_nxt - sample->copied_seq, 19U);
}

TEST_P(Exact, a_socket_older_than_the_observer_is_known_and_says_so)
{
  Workload program = exact();
  program.command("send 1013");
  Kernel kernel;
  auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_TRUE(sample->older_than_observer);
  EXPECT_EQ(sample->unread_bytes, 1013U);
  EXPECT_EQ(sample->owner.tgid, program.pid());
  EXPECT_EQ(sample->reads, 0U);
  program.command("read 2 101");
  sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->reads, 2U);
}

// The accepted end is never read: its owner can only come from the listener, by BPF_F_CLONE.
TEST_P(Exact, an_accepted_socket_inherits_the_owner_and_nothing_else)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 17");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_TRUE(sample->accepted);
  EXPECT_FALSE(sample->older_than_observer);
  EXPECT_EQ(sample->owner.tgid, program.pid());
  EXPECT_TRUE(known(sample->opened));
  EXPECT_EQ(sample->reads, 0U);
}

TEST_P(Exact, a_connecting_socket_belongs_to_who_connected)
{
  Kernel kernel;
  Workload program = exact({"--role", "connected"});
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_TRUE(sample->connected);
  EXPECT_EQ(sample->owner.tgid, program.pid());
}

TEST_P(Exact, sockets_of_another_network_namespace_are_seen)
{
  Workload older = exact({"--netns"});
  Kernel kernel;
  Workload younger = exact({"--netns"});
  for (Workload* program : {&older, &younger}) {
    program->command("send 1019");
    const auto sample = kernel.look(program->cookie());
    ASSERT_TRUE(sample);
    EXPECT_EQ(sample->unread_bytes, 1019U);
    EXPECT_EQ(sample->netns, program->number<std::uint32_t>("netns"));
    EXPECT_EQ(sample->owner.tgid, program->pid());
  }
}

TEST_P(Exact, who_holds_a_socket_is_found_by_the_walk)
{
  Kernel kernel;
  Workload program = exact();
  const Facts facts = program.command("fork-close");
  const auto child = static_cast<std::uint32_t>(std::stoul(facts.at("child_pid")));
  kernel.tick();
  std::vector<std::uint32_t> holders;
  for (const model::Holder& holder : kernel.tick().holders)
    if (holder.cookie == program.cookie())
      holders.push_back(holder.process.tgid);
  EXPECT_EQ(holders, std::vector<std::uint32_t>{child});
}

// Everything the process read counts, also over connections that came and went between two looks.
TEST_P(Exact, bytes_of_short_lived_connections_count_for_their_process)
{
  Kernel kernel;
  Workload program = exact();
  kernel.tick();
  for (int i = 0; i < 3; i++) {
    program.command("send 1009");
    program.command("read 1 1009");
    program.command("reopen");
  }
  // The last one counts when the kernel has destroyed it, which is when its peer has closed too.
  std::uint64_t read_bytes = 0, unseen = 0;
  eventually([&] {
    const model::Tick tick = kernel.tick();
    for (const model::ProcessSample& process : tick.processes)
      if (process.id.tgid == program.pid())
        read_bytes = process.read_bytes;
    unseen = tick.lost.total() + tick.lost.skipped_runs;
    return read_bytes >= 3U * 1009;
  }, 20);
  EXPECT_LE(read_bytes, 3U * 1009);
  EXPECT_GE(read_bytes + unseen * 1009, 3U * 1009) << "less than was read, and nothing says so";
}

TEST_P(Exact, the_end_of_an_announced_socket_is_told)
{
  Kernel kernel;
  Workload program = exact();
  program.command("send 101");
  ASSERT_TRUE(kernel.look(program.cookie()));
  program.command("read 1 101");
  program.command("peer-close");
  program.command("close");
  EXPECT_TRUE(eventually([&] {
    const auto& gone = kernel.tick().gone;
    return std::find(gone.begin(), gone.end(), program.cookie()) != gone.end();
  }, 20));
}

// A pid alone is not an identity: the start time of a process tells two apart.
TEST_P(Exact, start_times_are_those_of_proc)
{
  Kernel kernel;
  Workload program = exact();
  std::uint64_t start_ns = 0;
  for (const model::ProcessSample& process : kernel.tick().processes)
    if (process.id.tgid == program.pid())
      start_ns = process.id.start_ns;
  FILE* stat = std::fopen(("/proc/" + std::to_string(program.pid()) + "/stat").c_str(), "r");
  ASSERT_NE(stat, nullptr);
  unsigned long long ticks = 0;
  const int got = std::fscanf(stat, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks);
  std::fclose(stat);
  ASSERT_EQ(got, 1);
  EXPECT_EQ(start_ns / (1'000'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK))), ticks);
}

INSTANTIATE_TEST_SUITE_P(Family, Exact, testing::Values("4", "6"), [](const auto& family) { return "ipv" + family.param; });

// Resident memory equals /proc/PID/status, per-CPU parts included.
TEST(Memory, anonymous_pages_equal_proc_status)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Workload program({"hoarder", "--cap", "32MiB", "--rate", "max", "--delay-start", "command"});
  const auto anon_kib = [&]() -> std::uint64_t {
    FILE* status = std::fopen(("/proc/" + std::to_string(program.pid()) + "/status").c_str(), "r");
    char line[256];
    unsigned long long kib = 0;
    while (status != nullptr && std::fgets(line, sizeof line, status) != nullptr)
      std::sscanf(line, "RssAnon: %llu", &kib);
    if (status != nullptr)
      std::fclose(status);
    return kib;
  };
  // The program waits for the command start and allocates nothing meanwhile.
  const std::uint64_t before = anon_kib();
  for (const model::ProcessSample& process : kernel.tick().processes)
    if (process.id.tgid == program.pid()) {
      const auto error_kib = static_cast<double>(process.error_bytes) / 1024;
      EXPECT_NEAR(static_cast<double>(process.anon_bytes) / 1024, static_cast<double>(before), error_kib);
      EXPECT_EQ(process.comm, "workload");
      return;
    }
  FAIL() << "the process was not visited";
}

}  // namespace
}  // namespace laggard::test
