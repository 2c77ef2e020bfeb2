// SPDX-License-Identifier: MIT
// The traps of DESIGN 4.4 that have no place in exact_test.cpp: each number against the kernel's own word for it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "live/harness.h"

namespace laggard::test {
namespace {

struct ProcNet {
  std::uint32_t state = 0;
  std::uint64_t tx_queue = 0;
  std::uint64_t rx_queue = 0;
};

// The line of a socket in /proc/net/{tcp,tcp6,udp,udp6}: what ss and netstat show of it.
std::optional<ProcNet> proc_net(const std::string& table, std::uint64_t inode)
{
  std::ifstream file{"/proc/net/" + table};
  for (std::string line; std::getline(file, line);) {
    std::istringstream words{line};
    std::string slot, local, remote, state, queues, timer, retransmits;
    std::uint64_t uid = 0, timeout = 0, found = 0;
    words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> found;
    if (found != inode || queues.size() < 17)
      continue;
    return ProcNet{static_cast<std::uint32_t>(std::stoul(state, nullptr, 16)), std::stoull(queues.substr(0, 8), nullptr, 16),
                   std::stoull(queues.substr(9), nullptr, 16)};
  }
  return std::nullopt;
}

TEST(Traps, numbers_agree_with_what_ss_reads)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  for (const std::string family : {"4", "6"}) {
    Workload program({"exact", "--family", family});
    program.command("send 40009");
    program.command("read 3 1009");
    const auto sample = kernel.look(program.cookie());
    const auto proc = proc_net(family == "4" ? "tcp" : "tcp6", program.number<std::uint64_t>("inode"));
    ASSERT_TRUE(sample && proc);
    EXPECT_EQ(sample->unread_bytes, proc->rx_queue);
    EXPECT_EQ(sample->write_seq - sample->snd_una, proc->tx_queue);
    EXPECT_EQ(static_cast<std::uint32_t>(sample->state), proc->state);
    EXPECT_EQ(sample->inode, program.number<std::uint64_t>("inode"));
    EXPECT_EQ(to_string(sample->tuple.local), program.text("local"));
    EXPECT_EQ(to_string(sample->tuple.peer), program.text("peer"));
  }
}

// Memory of datagrams that were read is given back in batches: until then it is in sk_rmem_alloc but not in the queue.
TEST(Traps, udp_queue_leaves_out_the_forward_deficit)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Workload program({"exact", "--proto", "udp"});
  program.command("send 47 1009");
  for (int i = 0; i < 5; i++) {
    program.command("read 7 1009");
    const auto sample = kernel.look(program.cookie());
    const auto proc = proc_net("udp", program.number<std::uint64_t>("inode"));
    ASSERT_TRUE(sample && proc);
    EXPECT_EQ(sample->unread_bytes, proc->rx_queue);
    EXPECT_EQ(sample->queued_packets, 47U - 7 * (static_cast<unsigned>(i) + 1));
  }
}

// Since 6.18 UDP drops are not in sk_drops.
TEST(Traps, udp_drops_are_counted)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Workload program({"exact", "--proto", "udp", "--rcvbuf", "8192"});
  const Facts sent = program.command("send 211 509");
  const auto sample = kernel.look(program.cookie());
  ASSERT_TRUE(sample);
  EXPECT_GT(sample->drops, 0U);
  EXPECT_EQ(sample->drops, std::stoull(sent.at("dropped")));
  EXPECT_EQ(sample->drops + sample->queued_packets, 211U);
}

// chrono_stat leaves the running span out: a window that is shut for good would read as never shut.
TEST(Traps, a_permanently_shut_window_counts_as_it_lasts)
{
  LAGGARD_NEEDS_BPF();
  Workload program({"never-reads", "--rate", "20000000"});
  Kernel kernel;
  const auto sender = [&]() -> std::optional<model::SocketSample> {
    const auto reader = kernel.look(program.cookie());
    if (!reader)
      return std::nullopt;
    for (const model::SocketSample& sample : kernel.tick().sockets)
      if (sample.tuple == reader->tuple.reversed())
        return sample;
    return std::nullopt;
  };
  std::optional<model::SocketSample> shut;
  ASSERT_TRUE(eventually([&] { return (shut = sender()) && shut->rwnd_limited > Duration{}; }, 20));
  std::optional<model::SocketSample> later;
  ASSERT_TRUE(eventually([&] { return (later = sender()) && later->time - shut->time > std::chrono::milliseconds(500); }, 20));
  const double limited = seconds(later->rwnd_limited - shut->rwnd_limited), passed = seconds(later->time - shut->time);
  EXPECT_GT(limited, 0.8 * passed);
}

// There is no accept hook: what waits in the accept queue is a socket without a file, and nobody's fault yet.
TEST(Traps, a_connection_that_nobody_accepted_has_no_file)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Fd listener{::socket(AF_INET, SOCK_STREAM, 0)}, client{::socket(AF_INET, SOCK_STREAM, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::write(client.get(), "lost in the queue", 17), 17);
  const auto child = [&]() -> std::optional<model::SocketSample> {
    for (const model::SocketSample& sample : kernel.tick().sockets)
      if (sample.tuple.local.port == ntohs(address.sin_port) && !sample.is_listener() && sample.unread_bytes == 17)
        return sample;
    return std::nullopt;
  };
  std::optional<model::SocketSample> waiting;
  ASSERT_TRUE(eventually([&] { return (waiting = child()).has_value(); }, 10));
  EXPECT_FALSE(waiting->has_file);
  EXPECT_EQ(waiting->owner.tgid, static_cast<std::uint32_t>(::getpid()));
  Fd accepted{::accept(listener.get(), nullptr, nullptr)};
  ASSERT_TRUE(eventually([&] { return (waiting = child()).has_value(); }, 10));
  EXPECT_TRUE(waiting->has_file);
}

TEST(Traps, without_btf_it_says_so)
{
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can hide /sys/kernel/btf";
  Child laggard({laggard_program(), "watch"}, [] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", "/sys/kernel/btf", "tmpfs", 0, nullptr) != 0)
      ::_exit(126);
  });
  EXPECT_EQ(laggard.wait(), 3);
  EXPECT_NE(laggard.error_text().find("CONFIG_DEBUG_INFO_BTF"), std::string::npos);
}

}  // namespace
}  // namespace laggard::test
