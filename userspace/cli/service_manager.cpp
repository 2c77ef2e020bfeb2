// SPDX-License-Identifier: MIT
#include "cli/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string_view>

namespace laggard::cli {

ServiceManager ServiceManager::from_environment()
{
  ServiceManager manager;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string_view(value != nullptr ? value : "");
  };
  const std::string_view path = variable("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || (path[0] != '/' && path[0] != '@') || path.size() >= sizeof address.sun_path)
    return manager;
  std::ranges::copy(path, address.sun_path);
  if (path[0] == '@')  // the abstract namespace
    address.sun_path[0] = '\0';
  manager.socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The abstract name is all of the length, a path ends with its zero.
  const std::size_t length = offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '/' ? 1 : 0);
  if (::connect(manager.socket_.get(), reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(length)) != 0)
    manager.socket_.reset();
  const std::string_view watched = variable("WATCHDOG_PID");
  manager.watchdog_ = !variable("WATCHDOG_USEC").empty() && (watched.empty() || watched == std::to_string(::getpid()));
  return manager;
}

void ServiceManager::ticked(const std::string& status)
{
  const std::string ready = ready_said_ ? "" : "READY=1\n";
  ready_said_ = say(ready + (watchdog_ ? "WATCHDOG=1\n" : "") + "STATUS=" + status) || ready_said_;
}

void ServiceManager::stopping() { say("STOPPING=1"); }

// False: systemd has no room for it now.
bool ServiceManager::say(const std::string& message)
{
  return !socket_ || ::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) >= 0;
}

}  // namespace laggard::cli
