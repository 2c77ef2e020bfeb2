// SPDX-License-Identifier: MIT
#include "output/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace laggard::output {
namespace {

// O_NONBLOCK: a fifo would hold us here.
constexpr int kFlags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

Result<Fd> open_for_lines(const std::string& path, std::optional<std::uint32_t> owner)
{
  // Only what we made ourselves is given away. Where that is refused, reopen() will say what it cannot do.
  Fd file{::open(path.c_str(), kFlags | O_CREAT | O_EXCL, 0640)};
  if (file && owner)
    static_cast<void>(::fchown(file.get(), *owner, static_cast<gid_t>(-1)));
  if (!file && errno == EEXIST)
    file.reset(::open(path.c_str(), kFlags));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0)
    return errno_failure(fmt::format("cannot append to '{}'", path));
  if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode))
    return failure(fmt::format("cannot append to '{}': it is no regular file", path));
  return file;
}

}  // namespace

Result<OutputFile> OutputFile::open(const std::string& path, std::optional<std::uint32_t> owner)
{
  OutputFile file;
  file.path_ = path;
  auto opened = open_for_lines(path, owner);
  if (!opened)
    return tl::make_unexpected(opened.error());
  file.fd_ = std::move(*opened);
  return file;
}

Result<void> OutputFile::reopen()
{
  auto opened = open_for_lines(path_, {});
  if (!opened)
    return tl::make_unexpected(opened.error());
  if (::dup3(opened->get(), fd_.get(), O_CLOEXEC) < 0)
    return errno_failure(fmt::format("cannot replace '{}'", path_));
  return {};
}

void append_always(int fd)
{
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
    return;
  if (const int flags = ::fcntl(fd, F_GETFL); flags >= 0)
    static_cast<void>(::fcntl(fd, F_SETFL, flags | O_APPEND));
}

}  // namespace laggard::output
