// SPDX-License-Identifier: MIT
#include "identify/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "identify/clock.h"

namespace laggard::identify {
namespace {

// Coarser than the time stamps of any file system: two changes within it may leave the same one.
constexpr std::int64_t kStampSeconds = 2;

}  // namespace

Fd open_below(const std::string& root, const std::string& path, int flags)
{
  if (root.empty() || root == "/") return Fd(::open(path.c_str(), flags | O_CLOEXEC));
  const Fd base(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!base) return {};
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(::syscall(SYS_openat2, base.get(), path.c_str(), &how, sizeof how)));
}

bool visit_entries(int directory, const std::function<bool(std::string_view, unsigned char)>& visit)
{
  if (::lseek(directory, 0, SEEK_SET) != 0) return false;
  alignas(dirent64) std::array<char, 16U << 10> buffer;
  for (;;) {
    const long bytes = ::syscall(SYS_getdents64, directory, buffer.data(), buffer.size());
    if (bytes <= 0) return bytes == 0;
    for (long at = 0; at < bytes;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      const std::string_view name(entry->d_name);
      if (name != "." && name != ".." && !visit(name, entry->d_type)) return false;
    }
  }
}

WatchedDirectory::WatchedDirectory(std::string root, std::string path) : root_(std::move(root)), path_(std::move(path))
{
  open_again_if_replaced();
}

WatchedDirectory::Stamp WatchedDirectory::stamp_of(int fd)
{
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_mtim};
}

void WatchedDirectory::open_again_if_replaced()
{
  // Where we may not look any more, what is open is all that there is.
  const Stamp there = stamp_of(open_below(root_, path_, O_PATH | O_DIRECTORY).get());
  const Stamp open = stamp_of(fd_.get());
  if (there.inode == 0 || (there.device == open.device && there.inode == open.inode)) return;
  if (Fd fd = open_below(root_, path_, O_RDONLY | O_DIRECTORY)) fd_ = std::move(fd);
}

bool WatchedDirectory::is_due(MonoTime now)
{
  if (now < not_before_) return false;
  open_again_if_replaced();
  return fd_ && (!stamp_is_final_ || stamp_ != stamp_of(fd_.get()));
}

void WatchedDirectory::read(MonoTime now, const std::function<void(std::string_view name)>& visit)
{
  stamp_ = stamp_of(fd_.get());
  const auto wall = std::chrono::floor<std::chrono::seconds>(clock_now(CLOCK_REALTIME));
  stamp_is_final_ = std::abs(wall.count() - stamp_.changed.tv_sec) > kStampSeconds;
  std::size_t entries = 0;
  visit_entries(fd_.get(), [&](std::string_view name, unsigned char) {
    visit(name);
    return ++entries < kMaxEntries;
  });
  if (entries > kFreeEntries) not_before_ = now + kPausePerEntry * static_cast<std::int64_t>(entries);
}

}  // namespace laggard::identify
