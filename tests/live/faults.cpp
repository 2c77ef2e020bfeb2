// SPDX-License-Identifier: MIT
#include "live/faults.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <stdexcept>

namespace laggard::test {
namespace {

sockaddr_in loopback()
{
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Binds to a free port of the loopback.
bool bind_anywhere(int fd, sockaddr_in& address)
{
  address = loopback();
  socklen_t size = sizeof address;
  return ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
         ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
}

}  // namespace

void Faults::SetUp()
{
  LAGGARD_NEEDS_BPF();
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can inject these faults";
}

bool Faults::is_quick() { return std::getenv("LAGGARD_LIVE_QUICK") != nullptr; }

void Faults::row(const std::string& injected, const std::string& lost, const std::string& said)
{
  std::printf("FAULT | %s | %s | %s |\n", injected.c_str(), lost.c_str(), said.c_str());
  std::fflush(stdout);
}

std::string load_program()
{
  const char* path = std::getenv("LOAD_BIN");
  return path != nullptr ? path : std::string(LAGGARD_BINARY_DIR) + "/load";
}

Player::Player(const char* name, const std::function<void()>& body) : pid_(::fork())
{
  if (pid_ < 0)
    throw std::runtime_error("fork failed");
  if (pid_ > 0)
    return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, name);
  body();
  ::_exit(0);
}

Player::~Player()
{
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Shared& make_shared_counters()
{
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw std::runtime_error("mmap failed");
  return *new (memory) Shared;
}

bool enter_network()
{
  if (::unshare(CLONE_NEWNET) != 0)
    return false;
  const Fd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

int unread_datagram()
{
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  if (fd < 0 || !bind_anywhere(fd, address) ||
      ::sendto(fd, "unread", 6, 0, reinterpret_cast<sockaddr*>(&address), sizeof address) != 6)
    return -1;
  return fd;
}

int unread_stream()
{
  const Fd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  if (!listener || !bind_anywhere(listener.get(), address) || ::listen(listener.get(), 1) != 0)
    return -1;
  const int writer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (writer < 0 || ::connect(writer, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return -1;
  const int reader = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  return reader >= 0 && ::send(writer, "unread", 6, MSG_NOSIGNAL) == 6 ? reader : -1;
}

std::optional<Json> wait_for_degraded(Observer& laggard, const std::string& message, double seconds)
{
  return laggard.wait_for(
      [&](const Json& line) {
        return line["event.name"] == "laggard.agent.degraded" && line["message"].get<std::string>().find(message) != std::string::npos;
      },
      seconds);
}

std::uint64_t rss_bytes(std::uint32_t pid)
{
  std::ifstream file{"/proc/" + std::to_string(pid) + "/status"};
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:"))
      return std::stoull(line.substr(6)) << 10;
  return 0;
}

}  // namespace laggard::test
