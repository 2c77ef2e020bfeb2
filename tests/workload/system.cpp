// SPDX-License-Identifier: MIT
#include "system.h"

#include <arpa/inet.h>
#include <grp.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace workload {

void fail_errno(const std::string& what)
{
  throw Failure(what + ": " + std::strerror(errno));
}

void Fd::reset(int number)
{
  if (number_ >= 0)
    ::close(number_);
  number_ = number;
}

std::string Address::text() const
{
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 in6{};
    std::memcpy(&in6, &storage, sizeof in6);
    ::inet_ntop(AF_INET6, &in6.sin6_addr, host.data(), host.size());
    return "[" + std::string(host.data()) + "]:" + std::to_string(ntohs(in6.sin6_port));
  }
  sockaddr_in in{};
  std::memcpy(&in, &storage, sizeof in);
  ::inet_ntop(AF_INET, &in.sin_addr, host.data(), host.size());
  return std::string(host.data()) + ":" + std::to_string(ntohs(in.sin_port));
}

Address loopback(int family, std::uint16_t port)
{
  Address address;
  if (family == AF_INET6) {
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr = in6addr_loopback;
    in6.sin6_port = htons(port);
    std::memcpy(&address.storage, &in6, sizeof in6);
    address.length = sizeof in6;
  } else {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons(port);
    std::memcpy(&address.storage, &in, sizeof in);
    address.length = sizeof in;
  }
  return address;
}

Address local_address(int fd)
{
  Address address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, address.raw(), &address.length) != 0)
    fail_errno("getsockname");
  return address;
}

Address peer_address(int fd)
{
  Address address;
  address.length = sizeof address.storage;
  if (::getpeername(fd, address.raw(), &address.length) != 0)
    address.storage.ss_family = local_address(fd).storage.ss_family;
  return address;
}

bool is_connected(int fd)
{
  Address address;
  address.length = sizeof address.storage;
  return ::getpeername(fd, address.raw(), &address.length) == 0;
}

Fd make_socket(int family, bool udp, int rcvbuf)
{
  Fd fd{::socket(family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0)};
  if (!fd.open())
    fail_errno(family == AF_INET6 ? "socket (IPv6)" : "socket");
  if (rcvbuf > 0 && ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf) != 0)
    fail_errno("SO_RCVBUF");
  return fd;
}

Fd make_listener(const Address& address, int rcvbuf)
{
  Fd fd = make_socket(address.storage.ss_family, false, rcvbuf);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bind_to(fd.get(), address);
  if (::listen(fd.get(), 128) != 0)
    fail_errno("listen");
  return fd;
}

void bind_to(int fd, const Address& address)
{
  if (::bind(fd, address.raw(), address.length) != 0)
    fail_errno("bind " + address.text());
}

void connect_to(int fd, const Address& address)
{
  if (::connect(fd, address.raw(), address.length) != 0)
    fail_errno("connect " + address.text());
}

Fd accept_from(int listener)
{
  Fd fd{::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)};
  if (!fd.open())
    fail_errno("accept");
  return fd;
}

std::int64_t siocinq(int fd)
{
  int bytes = 0;
  return fd >= 0 && ::ioctl(fd, SIOCINQ, &bytes) == 0 ? bytes : -1;
}

int tcp_state(int fd)
{
  tcp_info info{};
  socklen_t length = sizeof info;
  return fd >= 0 && ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_state : -1;
}

bool peer_has_closed(int fd)
{
  switch (tcp_state(fd)) {
    case TCP_CLOSE_WAIT:
    case TCP_LAST_ACK:
    case TCP_CLOSING:
    case TCP_TIME_WAIT:
    case TCP_CLOSE:
      return true;
    default:
      return false;
  }
}

std::string state_name(int fd)
{
  static constexpr std::array<const char*, 12> kNames = {"none",      "ESTABLISHED", "SYN_SENT", "SYN_RECV",
                                                         "FIN_WAIT1", "FIN_WAIT2",   "TIME_WAIT", "CLOSE",
                                                         "CLOSE_WAIT", "LAST_ACK",   "LISTEN",   "CLOSING"};
  if (fd < 0)
    return "none";
  int state = tcp_state(fd);
  if (state < 0)  // UDP uses the same two states in sk_state
    state = is_connected(fd) ? TCP_ESTABLISHED : TCP_CLOSE;
  return static_cast<std::size_t>(state) < kNames.size() ? kNames[static_cast<std::size_t>(state)] : "unknown";
}

std::uint64_t socket_cookie(int fd)
{
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0)
    fail_errno("SO_COOKIE");
  return cookie;
}

std::uint64_t socket_inode(int fd)
{
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    fail_errno("fstat");
  return status.st_ino;
}

MemInfo memory_of(int fd)
{
  std::array<std::uint32_t, SK_MEMINFO_VARS> values{};
  socklen_t length = sizeof values;
  if (fd < 0 || ::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values.data(), &length) != 0)
    return {};
  return {values[SK_MEMINFO_RMEM_ALLOC], values[SK_MEMINFO_RCVBUF], values[SK_MEMINFO_DROPS]};
}

std::uint64_t netns_inode()
{
  struct stat status {};
  if (::stat("/proc/self/ns/net", &status) != 0)
    fail_errno("stat /proc/self/ns/net");
  return status.st_ino;
}

void enter_new_netns()
{
  if (::unshare(CLONE_NEWNET) != 0)
    fail_errno("unshare(CLONE_NEWNET), which needs CAP_SYS_ADMIN");
  const Fd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (!fd.open() || ::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0)
    fail_errno("bring up lo");
}

void drop_to_uid(unsigned uid)
{
  if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0)
    fail_errno("change to uid " + std::to_string(uid));
  ::prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);  // or /proc/self belongs to root
}

void raise_fd_limit()
{
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void die_with_parent(int parent_tgid)
{
  ::prctl(PR_SET_PDEATHSIG, static_cast<unsigned long>(SIGKILL), 0L, 0L, 0L);
  if (::getppid() != parent_tgid)
    ::_exit(0);
}

bool wait_until(Duration deadline, const std::function<bool()>& condition)
{
  const TimePoint end = Clock::now() + deadline;
  while (!condition()) {
    if (Clock::now() >= end)
      return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

Line& Line::append_text(const std::string& text)
{
  if (!text_.empty() && !text.empty())
    text_ += ' ';
  text_ += text;
  return *this;
}

Line& Line::add(const char* key, const std::string& value)
{
  return append_text(key + ("=" + value));
}

void Line::print() const
{
  const std::string line = text_ + "\n";
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t count = ::write(STDOUT_FILENO, line.data() + done, line.size() - done);
    if (count < 0 && errno != EINTR)
      ::_exit(2);  // nobody listens
    done += count > 0 ? static_cast<std::size_t>(count) : 0;
  }
}

}  // namespace workload
