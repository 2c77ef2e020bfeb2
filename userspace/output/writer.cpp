// SPDX-License-Identifier: MIT
#include "output/writer.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace laggard::output {
namespace {

constexpr int kPatienceMs = 1000;

bool is_file(int fd)
{
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

int Writer::wait_for_reader(int fd)
{
  std::array<pollfd, 2> fds = {pollfd{fd, POLLOUT, 0}, pollfd{stop_fd_, POLLIN, 0}};
  while (::poll(fds.data(), fds.size(), -1) < 0)
    if (errno != EINTR)
      return errno;
  if (fds[0].revents != 0)
    return 0;
  // Several lines may wait: not a second for each.
  if (waited_in_vain_ || ::poll(fds.data(), 1, kPatienceMs) <= 0) {
    waited_in_vain_ = true;
    return EINTR;
  }
  return 0;
}

int Writer::write(int fd, std::string_view bytes)
{
  // What can be written to takes PIPE_BUF bytes without waiting.
  const std::size_t most = stop_fd_ >= 0 && !is_file(fd) ? PIPE_BUF : bytes.size();
  while (!bytes.empty()) {
    if (stop_fd_ >= 0)
      if (const int error = wait_for_reader(fd); error != 0)
        return error;
    const ssize_t written = ::write(fd, bytes.data(), std::min(bytes.size(), most));
    if (written > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (written == 0)
      return EIO;
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
      return errno;
    // Somebody who shares the terminal or pipe made it non-blocking.
    if (stop_fd_ >= 0)
      continue;
    pollfd wait{fd, POLLOUT, 0};
    if (::poll(&wait, 1, -1) < 0 && errno != EINTR)
      return errno;
  }
  return 0;
}

}  // namespace laggard::output
