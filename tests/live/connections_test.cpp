// SPDX-License-Identifier: MIT
// What becomes of connections, and MPTCP: both ends are in this process, and its system calls say what is true.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "live/harness.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace laggard::test {
namespace {

Fd stream_socket(int protocol)
{
  Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol)};
  if (!fd)
    throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
  return fd;
}

sockaddr_in loopback(std::uint16_t port)
{
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

std::uint16_t port_of(const Fd& fd)
{
  sockaddr_in address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw std::runtime_error(std::string("getsockname: ") + std::strerror(errno));
  return ntohs(address.sin_port);
}

// On port 0: the kernel chooses.
Fd listen_somewhere(int protocol)
{
  Fd fd = stream_socket(protocol);
  const sockaddr_in address = loopback(0);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), 11) != 0)
    throw std::runtime_error(std::string("listen: ") + std::strerror(errno));
  return fd;
}

// Not bound before.
Fd connect_to(std::uint16_t port, int protocol)
{
  Fd fd = stream_socket(protocol);
  const sockaddr_in address = loopback(port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error(std::string("connect: ") + std::strerror(errno));
  return fd;
}

struct Pair {
  explicit Pair(int protocol = IPPROTO_TCP)
      : listener(listen_somewhere(protocol)),
        client(connect_to(port_of(listener), protocol)),
        server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC))
  {
  }
  Fd listener, client, server;
};

void write_exactly(const Fd& fd, std::size_t bytes)
{
  const std::string text(bytes, 'q');
  ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
}

ssize_t read_some(const Fd& fd, std::size_t bytes)
{
  std::string buffer(bytes, '\0');
  return ::recv(fd.get(), buffer.data(), buffer.size(), 0);
}

int siocinq(const Fd& fd)
{
  int bytes = -1;
  return ::ioctl(fd.get(), SIOCINQ, &bytes) == 0 ? bytes : -1;
}

std::uint64_t cookie_of(const Fd& fd)
{
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size);
  return cookie;
}

tcp_info info_of(const Fd& fd)
{
  tcp_info info{};
  socklen_t size = sizeof info;
  ::getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  return info;
}

std::uint32_t me() { return static_cast<std::uint32_t>(::getpid()); }

// ---- MPTCP ----

class Mptcp : public testing::Test {
 protected:
  void SetUp() override
  {
    LAGGARD_NEEDS_BPF();
    const Fd fd{::socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)};
    if (!fd)
      GTEST_SKIP() << "no MPTCP on this machine: " << std::strerror(errno);
  }
};

TEST_F(Mptcp, a_backlog_is_counted_and_what_waits_is_found)
{
  Kernel kernel;
  const Fd listener = listen_somewhere(IPPROTO_MPTCP);
  const std::uint16_t port = port_of(listener);
  std::vector<Fd> clients;
  for (const int protocol : {IPPROTO_MPTCP, IPPROTO_MPTCP, IPPROTO_TCP})  // one speaks TCP only
    clients.push_back(connect_to(port, protocol));
  const auto backlog = [&] {
    std::optional<std::pair<std::uint32_t, std::uint32_t>> told;
    std::size_t listeners = 0;
    for (const model::SocketSample& sample : kernel.tick().sockets)
      if (sample.is_listener() && sample.tuple.local.port == port) {
        listeners++;
        told = {sample.ack_backlog, sample.max_ack_backlog};
        EXPECT_EQ(sample.owner.tgid, me());
        EXPECT_EQ(sample.transport, model::Transport::Tcp);
      }
    EXPECT_EQ(listeners, 1U) << "the socket that the program has, not the one below it";
    return told;
  };
  const auto waiting = [&] {
    std::vector<model::SocketSample> found;
    for (const model::SocketSample& sample : kernel.session_tick().sockets)
      if (sample.unaccepted && sample.tuple.local.port == port)
        found.push_back(sample);
    return found;
  };
  // The last handshake's ACK may be on its way.
  EXPECT_TRUE(eventually([&] { return backlog() == std::pair(3U, 11U); }, 10));
  std::vector<model::SocketSample> children;
  EXPECT_TRUE(eventually([&] { return (children = waiting()).size() == 3; }, 10)) << children.size();
  for (const model::SocketSample& child : children) {
    EXPECT_EQ(child.owner.tgid, me());
    EXPECT_FALSE(child.has_file);
    EXPECT_TRUE(known(child.opened));
  }
  const Fd first{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  ASSERT_TRUE(first);
  EXPECT_EQ(backlog(), std::pair(2U, 11U));
  EXPECT_EQ(waiting().size(), 2U);
}

TEST_F(Mptcp, unread_bytes_are_what_siocinq_says)
{
  Kernel kernel;
  Pair pair{IPPROTO_MPTCP};
  const std::uint16_t port = port_of(pair.listener), client_port = port_of(pair.client);
  const auto server = [&] {
    std::vector<model::SocketSample> found;
    for (const model::SocketSample& sample : kernel.tick().sockets)
      if (sample.tuple.local.port == port && sample.tuple.peer.port == client_port)
        found.push_back(sample);
    EXPECT_GE(found.size(), 1U);
    return found.empty() ? model::SocketSample{} : found.back();
  };
  write_exactly(pair.client, 10007);
  ASSERT_TRUE(eventually([&] { return siocinq(pair.server) == 10007; }, 10));
  model::SocketSample sample = server();
  EXPECT_EQ(sample.unread_bytes, 10007U);
  EXPECT_EQ(sample.rcv_nxt - sample.copied_seq, 10007U);
  EXPECT_EQ(sample.state, model::TcpState::Established);
  EXPECT_EQ(sample.leftover_bytes, 0U);
  EXPECT_EQ(sample.reads, 0U);
  EXPECT_TRUE(sample.has_file);
  EXPECT_TRUE(sample.accepted);
  EXPECT_EQ(sample.owner.tgid, me());

  ASSERT_EQ(read_some(pair.server, 1009), 1009);
  ASSERT_EQ(siocinq(pair.server), 8998);
  sample = server();
  EXPECT_EQ(sample.unread_bytes, 8998U);
  EXPECT_EQ(sample.leftover_bytes, 8998U);
  EXPECT_EQ(sample.reads, 1U);
  EXPECT_EQ(sample.read_bytes, 1009U);

  write_exactly(pair.client, 211);
  ASSERT_TRUE(eventually([&] { return siocinq(pair.server) == 9209; }, 10));
  sample = server();
  EXPECT_EQ(sample.unread_bytes, 9209U);
  EXPECT_EQ(sample.leftover_bytes, 0U);

  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  pollfd ended{pair.server.get(), POLLRDHUP, 0};
  ASSERT_EQ(::poll(&ended, 1, 10'000), 1);
  sample = server();
  EXPECT_EQ(sample.unread_bytes, 9209U) << "SIOCINQ says " << siocinq(pair.server);
  EXPECT_EQ(sample.state, model::TcpState::CloseWait);
  EXPECT_FALSE(sample.eof_seen);
  std::size_t left = 9209;
  while (left > 0) {
    const ssize_t got = read_some(pair.server, left);
    ASSERT_GT(got, 0);
    left -= static_cast<std::size_t>(got);
  }
  EXPECT_EQ(server().unread_bytes, 0U);
  ASSERT_EQ(read_some(pair.server, 1), 0);
  sample = server();
  EXPECT_EQ(sample.unread_bytes, 0U);
  EXPECT_TRUE(sample.eof_seen);
  EXPECT_EQ(sample.read_bytes, 1009U + 9209);
}

// ---- how connections end ----

// "client": not bound before it connected. "server": of a listener on port 0. The one that is held.
class Reset : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { LAGGARD_NEEDS_BPF(); }
  // Resets the other one.
  static void reset(Pair& pair)
  {
    Fd& other = GetParam() == "client" ? pair.server : pair.client;
    const linger now{1, 0};
    ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    other.reset();
  }
  static const Fd& held(const Pair& pair) { return GetParam() == "client" ? pair.client : pair.server; }
};

TEST_P(Reset, what_is_held_says_so_and_keeps_its_port)
{
  Kernel kernel;
  Pair pair;
  const std::uint16_t server_port = port_of(pair.server), client_port = port_of(pair.client);
  const std::uint64_t cookie = cookie_of(held(pair));
  auto sample = kernel.look(cookie);
  ASSERT_TRUE(sample);
  EXPECT_FALSE(sample->reset || sample->is_ended());
  reset(pair);
  ASSERT_TRUE(eventually([&] { return (sample = kernel.look(cookie)) && sample->state == model::TcpState::Close; }, 10));
  EXPECT_TRUE(sample->is_ended());
  EXPECT_TRUE(sample->reset);
  EXPECT_FALSE(sample->timed_out);
  EXPECT_FALSE(sample->peer_closed);
  EXPECT_TRUE(known(sample->ended_at));
  EXPECT_TRUE(sample->has_file);
  EXPECT_EQ(sample->owner.tgid, me());
  EXPECT_EQ(sample->tuple.local.port, GetParam() == "client" ? client_port : server_port);
  EXPECT_EQ(sample->tuple.peer.port, GetParam() == "client" ? server_port : client_port);
  // A session is told of it, too, for as long as it is held.
  for (int i = 0; i < 3; i++) {
    const auto& sockets = kernel.session_tick().sockets;
    EXPECT_TRUE(std::ranges::any_of(sockets, [&](const auto& one) { return one.cookie == cookie; }));
  }
}

TEST_P(Reset, what_is_held_is_found)
{
  Observer observer{{"watch", "--close-wait", "2s"}};
  observer.wait_started();
  Pair pair;
  const std::uint16_t server_port = port_of(pair.server), client_port = port_of(pair.client);
  reset(pair);
  const auto found = observer.wait_for_finding("close-wait", me());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->at("network.connection.state"), "closed");
  EXPECT_NE(found->at("message").get<std::string>().find("closed (reset by peer)"), std::string::npos) << found->at("message");
  EXPECT_EQ(found->at("network.local.port"), GetParam() == "client" ? client_port : server_port);
  EXPECT_EQ(found->at("network.peer.port"), GetParam() == "client" ? server_port : client_port);
  EXPECT_EQ(found->at("laggard.socket.cookie"), std::to_string(cookie_of(held(pair))));
}

INSTANTIATE_TEST_SUITE_P(Held, Reset, testing::Values("client", "server"), [](const auto& end) { return end.param; });

// ---- a peer that does not answer ----

// From here on no segment reaches it, as if its link were down.
void deafen(const Fd& fd)
{
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{1, &nothing};
  ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
}

TEST(DeadPeer, retransmissions_are_counted_until_it_answers)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Pair pair;
  const std::uint64_t cookie = cookie_of(pair.client);
  const auto at_rest = kernel.look(cookie);
  ASSERT_TRUE(at_rest);
  EXPECT_EQ(at_rest->retransmits, 0U);
  EXPECT_FALSE(at_rest->keepalive);
  int limit = 0;
  ASSERT_TRUE(std::ifstream{"/proc/sys/net/ipv4/tcp_retries2"} >> limit);
  EXPECT_EQ(at_rest->retransmits_limit, limit);

  deafen(pair.server);
  write_exactly(pair.client, 10007);
  ASSERT_TRUE(eventually([&] { return info_of(pair.client).tcpi_retransmits >= 2; }));
  const std::uint8_t before = info_of(pair.client).tcpi_retransmits;
  const auto lost = kernel.look(cookie);
  const std::uint8_t after = info_of(pair.client).tcpi_retransmits;
  ASSERT_TRUE(lost);
  EXPECT_GE(lost->retransmits, before);
  EXPECT_LE(lost->retransmits, after);
  EXPECT_EQ(lost->probes_unanswered, 0U);
  EXPECT_EQ(lost->write_seq - lost->snd_una, 10007U);
  EXPECT_EQ(lost->state, model::TcpState::Established);
  ASSERT_TRUE(known(lost->last_ack));
  EXPECT_LT(lost->last_ack, lost->time - std::chrono::milliseconds(200));  // two timers of that much and more have fired since

  const int none = 0;
  ASSERT_EQ(::setsockopt(pair.server.get(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none), 0);
  ASSERT_TRUE(eventually([&] { return siocinq(pair.server) == 10007; }));
  std::optional<model::SocketSample> answered;
  ASSERT_TRUE(eventually([&] { return (answered = kernel.look(cookie)) && answered->write_seq == answered->snd_una; }, 10));
  EXPECT_EQ(answered->retransmits, 0U);
  EXPECT_GT(answered->last_ack, lost->last_ack);
}

TEST(DeadPeer, a_connection_that_timed_out_while_it_was_held_says_so)
{
  LAGGARD_NEEDS_BPF();
  Kernel kernel;
  Pair pair;
  const std::uint64_t cookie = cookie_of(pair.client);
  const std::uint16_t port = port_of(pair.client);
  const unsigned most = 1009;
  const int yes = 1;
  ASSERT_EQ(::setsockopt(pair.client.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &most, sizeof most), 0);
  ASSERT_EQ(::setsockopt(pair.client.get(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes), 0);
  auto sample = kernel.look(cookie);
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->user_timeout, std::chrono::milliseconds(1009));
  EXPECT_TRUE(sample->keepalive);
  deafen(pair.server);
  write_exactly(pair.client, 101);
  ASSERT_TRUE(eventually([&] { return (sample = kernel.look(cookie)) && sample->state == model::TcpState::Close; }));
  EXPECT_TRUE(sample->is_ended());
  EXPECT_TRUE(sample->timed_out);
  EXPECT_FALSE(sample->reset);
  EXPECT_TRUE(known(sample->ended_at));
  EXPECT_EQ(sample->tuple.local.port, port);
}

}  // namespace
}  // namespace laggard::test
