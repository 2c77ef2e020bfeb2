// SPDX-License-Identifier: MIT
#include "output/sink.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "output/fields.h"
#include "output/text.h"

namespace laggard::output {
namespace {

// rsyslog cuts at 8 KiB and then fails to parse. With the newline.
constexpr std::size_t kMaxLineBytes = 8000;

constexpr int kPatienceMs = 1000;  // with a reader that does not read, once we have been asked to stop

bool is_file(int fd)
{
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

// 0, or errno: EINTR where we have been asked to stop and nobody reads.
int wait_for_reader(int fd, int stop_fd)
{
  std::array<pollfd, 2> fds = {pollfd{fd, POLLOUT, 0}, pollfd{stop_fd, POLLIN, 0}};
  while (::poll(fds.data(), fds.size(), -1) < 0)
    if (errno != EINTR)
      return errno;
  return fds[0].revents != 0 || ::poll(fds.data(), 1, kPatienceMs) > 0 ? 0 : EINTR;
}

// 0 or errno. In one write(2) where the kernel takes it all, which pipes do up to PIPE_BUF and files always.
int write_all(int fd, std::string_view bytes, int stop_fd)
{
  // What can be written to takes PIPE_BUF bytes without waiting.
  const std::size_t most = stop_fd >= 0 && !is_file(fd) ? PIPE_BUF : bytes.size();
  while (!bytes.empty()) {
    if (stop_fd >= 0)
      if (const int error = wait_for_reader(fd, stop_fd); error != 0)
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
    pollfd wait{fd, POLLOUT, 0};
    if (::poll(&wait, 1, -1) < 0 && errno != EINTR)
      return errno;
  }
  return 0;
}

// json and logfmt: everything goes to one stream, an event is a line.
class LineSink final : public Sink {
 public:
  using Render = void (*)(const Fields&, std::string&);
  LineSink(int fd, const Observer& observer, Render render) : fd_(fd), observer_(observer), render_(render) {}

  bool started(const Observer& observer, WallTime time) override
  {
    observer_ = observer;
    return put(started_fields(observer_, time));
  }
  bool finding(const detect::Finding& finding) override { return put(finding_fields(observer_, finding)); }
  bool socket(const SocketLine& line) override { return put(socket_fields(observer_, line)); }
  bool explanation(const Explanation& explanation) override
  {
    return std::ranges::all_of(explanation_fields(observer_, explanation), [this](const Fields& fields) { return put(fields); });
  }
  bool degraded(const Degraded& degraded) override { return put(degraded_fields(observer_, degraded)); }
  bool stopped(const Summary& summary) override { return put(stopped_fields(observer_, summary)); }

 private:
  bool put(Fields fields)
  {
    do {
      line_.clear();
      render_(fields, line_);
      line_ += '\n';
    } while (line_.size() > kMaxLineBytes && shorten(fields));
    return write(fd_, line_);
  }

  int fd_;
  Observer observer_;
  Render render_;
  std::string line_;
};

}  // namespace

bool Sink::write(int fd, std::string_view bytes)
{
  const int error = write_all(fd, bytes, stop_fd_);
  if (error != 0)
    error_ = std::error_code(error, std::system_category());
  return error == 0;
}

std::unique_ptr<Sink> make_sink(const SinkOptions& options, const Observer& observer)
{
  switch (options.format) {
    case Format::Json: return std::make_unique<LineSink>(options.fd, observer, render_json);
    case Format::Logfmt: return std::make_unique<LineSink>(options.fd, observer, render_logfmt);
    case Format::Text: break;
  }
  return make_text_sink(options, observer);
}

}  // namespace laggard::output
