// SPDX-License-Identifier: MIT
#include "source/live/programs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "identify/process_maps.h"

namespace laggard::source::live {
namespace {

namespace fs = std::filesystem;

bool identify_file(int directory, const std::string& path, FileId& id)
{
  struct statx status {};
  if (::statx(directory, path.c_str(), path.empty() ? AT_EMPTY_PATH : 0, STATX_BASIC_STATS | STATX_BTIME, &status) != 0 ||
      !S_ISREG(status.stx_mode))
    return false;
  // Not the change time: to be deleted or replaced is a change.
  const statx_timestamp& born = (status.stx_mask & STATX_BTIME) != 0 ? status.stx_btime : status.stx_mtime;
  id = {std::uint64_t{status.stx_dev_major} << 32 | status.stx_dev_minor, status.stx_ino, born.tv_sec * 1'000'000'000 + born.tv_nsec, status.stx_size};
  return true;
}

bool identify_file(const std::string& path, FileId& id) { return identify_file(AT_FDCWD, path, id); }

// The name behind /proc/PID/exe, which the kernel marks once the file is deleted or replaced.
std::string name_of_exe(const std::string& link)
{
  std::array<char, 4096> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  std::string name(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  constexpr std::string_view kDeleted = " (deleted)";
  if (name.ends_with(kDeleted))
    name.resize(name.size() - kDeleted.size());
  return name;
}

}  // namespace

bool is_wanted(std::string_view wanted, const ProgramFile& file)
{
  const std::string_view name = file.name;
  if (wanted.starts_with('/'))
    return wanted == name;
  if (file.is_library != (wanted.find(".so") != std::string_view::npos))
    return false;
  const auto slash = name.rfind('/');
  const std::string base{slash == std::string_view::npos ? name : name.substr(slash + 1)};
  return ::fnmatch(std::string(wanted).c_str(), base.c_str(), FNM_PERIOD) == 0;
}

ProgramsSeen each_program(bool libraries, const std::function<void(const ProgramFile&)>& found, const std::string& proc)
{
  ProgramsSeen seen;
  std::set<std::pair<std::uint64_t, std::uint64_t>> mapped;  // libraries: device as maps say it, inode
  std::error_code error;
  for (fs::directory_iterator entry{proc, error}, end; !error && entry != end; entry.increment(error)) {
    const std::string pid = entry->path().filename();
    if (!std::ranges::all_of(pid, [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    ProgramFile file;
    file.path = fmt::format("{}/{}/exe", proc, pid);
    if (!identify_file(file.path, file.id)) {
      seen.unreadable += errno == EACCES || errno == EPERM;
      continue;  // a kernel thread, or gone
    }
    seen.processes++;
    file.name = name_of_exe(file.path);
    found(file);
    if (!libraries)
      continue;
    const auto directory = identify::ProcessDirectory::open(static_cast<std::uint32_t>(std::stoul(pid)), proc);
    if (!directory)
      continue;
    const auto maps = directory->maps();
    if (!maps)
      continue;
    for (const identify::Mapping& mapping : *maps) {
      if (!mapping.is_executable || mapping.inode == 0 || mapping.name == file.name ||
          !mapped.emplace(static_cast<std::uint64_t>(mapping.device_major) << 32 | mapping.device_minor, mapping.inode).second)
        continue;
      // Of a library that was replaced while it runs only the kernel still has a name; it costs CAP_CHECKPOINT_RESTORE.
      ProgramFile library{{}, fmt::format("{}/{}/map_files/{:x}-{:x}", proc, pid, mapping.start, mapping.end), mapping.name, true};
      const std::string in_root = fmt::format("{}/{}/root{}", proc, pid, mapping.name);
      FileId named;
      if (!mapping.is_deleted && identify_file(in_root, named) && named.inode == mapping.inode)
        library.path = in_root;
      if (identify_file(library.path, library.id))
        found(library);
    }
  }
  return seen;
}

bool file_at(const std::string& path, ProgramFile& file)
{
  file.path = file.name = path;
  return identify_file(path, file.id);
}

std::string OpenProgram::path() const { return fmt::format("/proc/self/fd/{}", fd.get()); }

OpenProgram open_program(const ProgramFile& file)
{
  OpenProgram program{Fd{::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)}, {}};
  struct statfs filesystem {};
  if (!program.fd || !identify_file(program.fd.get(), "", program.id) || ::fstatfs(program.fd.get(), &filesystem) != 0)
    return {};
  if (filesystem.f_type == OVERLAYFS_SUPER_MAGIC)
    program.id.device = 0;
  return program;
}

}  // namespace laggard::source::live
