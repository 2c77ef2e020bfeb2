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
#include <cerrno>
#include <charconv>
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

namespace {

using Mapped = std::set<std::pair<std::uint64_t, std::uint64_t>>;  // libraries: device as maps say it, inode

void each_library_of(const std::string& proc, std::uint32_t tgid, const std::string& program, Mapped& known, const FoundProgram& found)
{
  auto directory = identify::ProcessDirectory::open(tgid, proc);
  if (!directory)
    return;
  const auto maps = directory->maps();
  if (!maps)
    return;
  for (const identify::Mapping& mapping : *maps) {
    if (!mapping.is_executable || mapping.inode == 0 || mapping.name == program ||
        !known.emplace(static_cast<std::uint64_t>(mapping.device_major) << 32 | mapping.device_minor, mapping.inode).second)
      continue;
    // Of a library that was replaced while it runs only the kernel still has a name; it costs CAP_CHECKPOINT_RESTORE.
    ProgramFile library{{}, fmt::format("{}/{}/map_files/{:x}-{:x}", proc, tgid, mapping.start, mapping.end), mapping.name, true, tgid};
    const std::string in_root = fmt::format("{}/{}/root{}", proc, tgid, mapping.name);
    FileId named;
    if (!mapping.is_deleted && identify_file(in_root, named) && named.inode == mapping.inode)
      library.path = in_root;
    if (identify_file(library.path, library.id))
      found(library);
  }
}

// False, with errno: it is a kernel thread, gone, or another user's.
bool program_of(const std::string& proc, std::uint32_t tgid, ProgramFile& file)
{
  file = {{}, fmt::format("{}/{}/exe", proc, tgid), {}, false, tgid};
  if (!identify_file(file.path, file.id))
    return false;
  file.name = name_of_exe(file.path);
  return true;
}

}  // namespace

ProgramsSeen each_program(Libraries libraries, const FoundProgram& found, const std::string& proc)
{
  ProgramsSeen seen;
  Mapped mapped;
  std::error_code error;
  for (fs::directory_iterator entry{proc, error}, end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::uint32_t tgid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), tgid).ptr != name.data() + name.size())
      continue;
    ProgramFile file;
    if (!program_of(proc, tgid, file)) {
      seen.unreadable += errno == EACCES || errno == EPERM;
      continue;
    }
    seen.processes++;
    found(file);
    if (libraries == Libraries::OncePerProcess)
      mapped.clear();
    if (libraries != Libraries::None)
      each_library_of(proc, tgid, file.name, mapped, found);
  }
  return seen;
}

void each_program_of(std::uint32_t tgid, bool libraries, const FoundProgram& found, const std::string& proc)
{
  ProgramFile file;
  if (!program_of(proc, tgid, file))
    return;
  found(file);
  Mapped mapped;
  if (libraries)
    each_library_of(proc, tgid, file.name, mapped, found);
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
