// SPDX-License-Identifier: MIT
#include "cli/heartbeat.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>

#include "identify/clock.h"

namespace laggard::cli {
namespace {

Result<std::string> content(int fd, const std::string& path)
{
  std::array<char, 256> buffer{};
  const ssize_t length = ::pread(fd, buffer.data(), buffer.size(), 0);
  if (length < 0)
    return errno_failure(fmt::format("cannot read {}", path));
  return std::string(buffer.data(), static_cast<std::size_t>(length));
}

}  // namespace

Result<Heartbeat> Heartbeat::open(const std::string& path, Duration interval)
{
  Heartbeat heartbeat;
  heartbeat.path_ = path;
  heartbeat.interval_ = interval;
  // O_NONBLOCK: a fifo would hold us here.
  heartbeat.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644));
  struct stat status {};
  if (!heartbeat.fd_ || ::fstat(heartbeat.fd_.get(), &status) != 0)
    return errno_failure(fmt::format("cannot write the heartbeat {} (its folder must exist, and it must be no link)", path));
  if (!S_ISREG(status.st_mode))
    return failure(fmt::format("the heartbeat {} is no regular file; name another one", path));
  // Whatever the umask is: `laggard health` needs no privilege. It fails where the file is somebody else's, who decides then.
  static_cast<void>(::fchmod(heartbeat.fd_.get(), 0644));
  if (::ftruncate(heartbeat.fd_.get(), 0) != 0)
    return errno_failure(fmt::format("cannot empty the heartbeat {}", path));
  return heartbeat;
}

Result<void> Heartbeat::beat()
{
  const std::string line = fmt::format("monotonic_ns {:020} interval_ns {:020} pid {:010}\n",
                                       identify::monotonic_now().time_since_epoch().count(), interval_.count(), ::getpid());
  if (::pwrite(fd_.get(), line.data(), line.size(), 0) != static_cast<ssize_t>(line.size()))
    return errno_failure(fmt::format("cannot write the heartbeat {}", path_));
  return {};
}

Heartbeat::~Heartbeat()
{
  if (fd_)
    static_cast<void>(::ftruncate(fd_.get(), 0));
}

Result<std::optional<Beat>> read_beat(const std::string& path)
{
  const Fd fd{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (!fd)
    return errno_failure(fmt::format("cannot open {}", path));
  // A read may meet a write half-way: two that are equal did not.
  auto text = content(fd.get(), path);
  for (int looks = 0; text && looks < 3; looks++) {
    auto again = content(fd.get(), path);
    if (!again || *again == *text)
      break;
    text = std::move(again);
  }
  if (!text)
    return tl::make_unexpected(text.error());
  if (text->empty())
    return std::nullopt;
  std::int64_t time = 0, interval = 0, pid = 0;
  if (std::sscanf(text->c_str(), "monotonic_ns %20" SCNd64 " interval_ns %20" SCNd64 " pid %10" SCNd64, &time, &interval, &pid) != 3)
    return failure(fmt::format("{} is no heartbeat of laggard", path));
  return Beat{MonoTime{Duration(time)}, Duration(interval), static_cast<pid_t>(pid)};
}

}  // namespace laggard::cli
