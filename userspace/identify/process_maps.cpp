// SPDX-License-Identifier: MIT
#include "identify/process_maps.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <optional>

namespace laggard::identify {
namespace {

constexpr std::uint64_t kMaxMemoryBytes = 1U << 20;  // a vdso has two pages

Fd open_path(int directory, const char* path) { return Fd(::openat(directory, path, O_PATH | O_CLOEXEC)); }

// Opening a device or a pipe can block, or do something. So look first, without opening.
Fd reopen_regular(const Fd& path, struct stat& status)
{
  if (!path || ::fstat(path.get(), &status) != 0) return {};
  if (!S_ISREG(status.st_mode)) {
    errno = ENODEV;
    return {};
  }
  return Fd(::open(fmt::format("/proc/self/fd/{}", path.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
}

bool same_device(const Mapping& mapping, const struct stat& status)
{
  return major(status.st_dev) == mapping.device_major && minor(status.st_dev) == mapping.device_minor;
}

// start-end perms offset major:minor inode   name
std::optional<Mapping> parse_mapping(const std::string& line)
{
  Mapping m;
  std::array<char, 5> permissions{};
  int name_at = 0;
  constexpr const char* kFormat = "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64 " %n";
  if (std::sscanf(line.c_str(), kFormat, &m.start, &m.end, permissions.data(), &m.file_offset, &m.device_major,
                  &m.device_minor, &m.inode, &name_at) != 7 ||
      m.start >= m.end)
    return std::nullopt;
  m.is_executable = permissions[2] == 'x';
  m.name = line.substr(static_cast<std::size_t>(name_at));
  constexpr std::string_view kDeleted = " (deleted)";
  if (m.name.ends_with(kDeleted) && m.inode != 0) {
    m.is_deleted = true;
    m.name.resize(m.name.size() - kDeleted.size());
  }
  // The kernel escapes the newline and nothing else.
  for (std::size_t at = 0; (at = m.name.find("\\012", at)) != std::string::npos; ++at) m.name.replace(at, 4, "\n");
  return m;
}

}  // namespace

std::vector<Mapping> parse_maps(const std::string& text)
{
  std::vector<Mapping> maps;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    auto mapping = parse_mapping(text.substr(at, end - at));
    if (mapping && (maps.empty() || mapping->start >= maps.back().end)) maps.push_back(std::move(*mapping));
    at = end + 1;
  }
  return maps;
}

Result<ProcessDirectory> ProcessDirectory::open(std::uint32_t tgid, const std::string& proc)
{
  Fd directory(::open(fmt::format("{}/{}", proc, tgid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory && errno == ENOENT)
    return failure(fmt::format("there is no process {} (or {} hides it: hidepid)", tgid, proc));
  if (!directory) return errno_failure(fmt::format("process {}", tgid));
  Fd root(::openat(directory.get(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return ProcessDirectory(std::move(directory), std::move(root));
}

Result<std::vector<Mapping>> read_maps(const Fd& file, std::size_t most_bytes)
{
  std::string text;
  std::array<char, 64U << 10> buffer;
  while (text.size() < most_bytes) {
    const ssize_t n = ::read(file.get(), buffer.data(), buffer.size());
    if (n == 0) break;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_failure("maps");
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return parse_maps(text);
}

Result<Fd> ProcessDirectory::open_maps() const
{
  Fd file(::openat(directory_.get(), "maps", O_RDONLY | O_CLOEXEC));
  return file ? Result<Fd>(std::move(file)) : errno_failure("maps");
}

Result<std::vector<Mapping>> ProcessDirectory::maps()
{
  const auto file = open_maps();
  return file ? read_maps(*file) : tl::make_unexpected(file.error());
}

// Links within the process's root must not lead out of it: they would name our files.
Fd ProcessDirectory::open_in_root(const std::string& path) const
{
  if (!root_ || path.empty() || path.front() != '/') {
    errno = EACCES;
    return {};
  }
  struct open_how how {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(::syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof how)));
}

Result<Fd> ProcessDirectory::open_mapped(const Mapping& mapping)
{
  struct stat status {};
  int first_error = 0;
  bool was_replaced = false, not_regular = false;
  const auto failed = [&] {
    not_regular = not_regular || errno == ENODEV;
    if (first_error == 0) first_error = errno;
  };
  if (!mapping.is_deleted) {
    Fd file = reopen_regular(open_in_root(mapping.name), status);
    // Below btrfs and overlayfs a mapping names another device than stat() does.
    if (file && status.st_ino == mapping.inode) return file;
    if (file)
      was_replaced = true;
    else
      failed();
    // A process in a chroot of our mount namespace: its maps have our names.
    if (Fd ours = reopen_regular(open_path(AT_FDCWD, mapping.name.c_str()), status);
        ours && status.st_ino == mapping.inode && same_device(mapping, status))
      return ours;
  }
  if (Fd exe = reopen_regular(open_path(directory_.get(), "exe"), status); exe && status.st_ino == mapping.inode)
    return exe;
  // Exact, but the kernel wants CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN for it.
  const std::string map_file = fmt::format("map_files/{:x}-{:x}", mapping.start, mapping.end);
  if (Fd file = reopen_regular(open_path(directory_.get(), map_file.c_str()), status)) return file;
  failed();
  return failure(not_regular          ? "is not a regular file"
                 : mapping.is_deleted ? "was deleted"
                 : was_replaced       ? "was replaced"
                                      : "cannot be opened (" + std::system_category().message(first_error) + ")");
}

std::vector<char> ProcessDirectory::read_memory(const Mapping& mapping)
{
  const Fd memory(::openat(directory_.get(), "mem", O_RDONLY | O_CLOEXEC));
  std::vector<char> bytes(static_cast<std::size_t>(std::min(mapping.end - mapping.start, kMaxMemoryBytes)));
  const ssize_t n = ::pread(memory.get(), bytes.data(), bytes.size(), static_cast<off_t>(mapping.start));
  bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return bytes;
}

std::vector<Fd> ProcessDirectory::open_named(const std::string& path)
{
  struct stat status {};
  std::vector<Fd> files;
  for (const bool in_root : {true, false})
    if (Fd file = reopen_regular(in_root ? open_in_root(path) : open_path(AT_FDCWD, path.c_str()), status))
      files.push_back(std::move(file));
  return files;
}

}  // namespace laggard::identify
