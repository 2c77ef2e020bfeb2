// SPDX-License-Identifier: MIT
#include "cli/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "support/temporary_root.h"

namespace laggard::cli {
namespace {

// systemd's end of the socket.
class Listener {
 public:
  explicit Listener(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const bool is_abstract = name[0] == '@';
    if (is_abstract)
      address.sun_path[0] = '\0';
    const std::size_t length = is_abstract ? sizeof(sa_family_t) + name.size() : sizeof address;
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(length)), 0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~Listener()
  {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      ::unsetenv(name);
  }
  std::string heard() const
  {
    std::array<char, 256> buffer{};
    const ssize_t length = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    return length < 0 ? "nothing" : std::string(buffer.data(), static_cast<std::size_t>(length));
  }

 private:
  Fd fd_;
};

TEST(ServiceManager, SaysReadyOnceAndAStatusAtEachTick)
{
  const test::TemporaryRoot root;
  for (const std::string& name : {root.path() + "/notify", std::string("@laggard-test-") + std::to_string(::getpid())}) {
    const Listener systemd{name};
    ServiceManager manager = ServiceManager::from_environment();
    EXPECT_EQ(systemd.heard(), "nothing") << name;
    manager.ticked("first");
    EXPECT_EQ(systemd.heard(), "READY=1\nSTATUS=first") << name;
    manager.ticked("second");
    EXPECT_EQ(systemd.heard(), "STATUS=second") << name;
    manager.stopping();
    EXPECT_EQ(systemd.heard(), "STOPPING=1") << name;
  }
}

TEST(ServiceManager, FeedsOnlyItsOwnWatchdog)
{
  const Listener systemd{"@laggard-test-" + std::to_string(::getpid())};
  ::setenv("WATCHDOG_USEC", "4000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  ServiceManager::from_environment().ticked("x");
  EXPECT_EQ(systemd.heard(), "READY=1\nSTATUS=x");
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  ServiceManager::from_environment().ticked("x");
  EXPECT_EQ(systemd.heard(), "READY=1\nWATCHDOG=1\nSTATUS=x");
}

TEST(ServiceManager, SaysReadyLaterWhereThereIsNoRoomAndNothingWithoutSystemd)
{
  const std::string name = "@laggard-test-" + std::to_string(::getpid());
  const Listener systemd{name};
  ServiceManager noisy = ServiceManager::from_environment();
  for (int i = 0; i < 2000; i++)  // net.unix.max_dgram_qlen, 10 to 512, and then no call waits
    noisy.ticked("noise");
  ServiceManager manager = ServiceManager::from_environment();
  manager.ticked("lost");
  std::string heard;
  while ((heard = systemd.heard()) != "nothing")
    EXPECT_EQ(heard.find("lost"), std::string::npos);
  manager.ticked("said");
  EXPECT_EQ(systemd.heard(), "READY=1\nSTATUS=said");

  ::unsetenv("NOTIFY_SOCKET");
  ServiceManager::from_environment().ticked("nobody is there");
  ::setenv("NOTIFY_SOCKET", (name + "-of-nobody").c_str(), 1);
  ServiceManager::from_environment().ticked("nobody is there");
}

}  // namespace
}  // namespace laggard::cli
