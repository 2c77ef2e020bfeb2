// SPDX-License-Identifier: MIT
#include "identify/process_maps.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>

namespace laggard::identify {
namespace {

constexpr std::size_t kMaxMapsBytes = 64U << 20;          // half a million mappings; vm.max_map_count is 65530
constexpr std::uint64_t kMaxCopiedBytes = 32ULL << 20;    // of one file's memory: only where the file is not to be had
constexpr std::uint64_t kMaxDebugFileBytes = 4ULL << 30;  // read once for its checksum, where it has no build id

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

enum class Same { kNo, kInodeOnly, kYes };

// Below btrfs and overlayfs a mapping names another device than stat() does.
Same same_file(const Mapping& mapping, const struct stat& status)
{
  if (status.st_ino != mapping.inode) return Same::kNo;
  const bool same_device = major(status.st_dev) == mapping.device_major && minor(status.st_dev) == mapping.device_minor;
  return same_device ? Same::kYes : Same::kInodeOnly;
}

Result<std::string> read_all(const Fd& file)
{
  std::string text;
  std::array<char, 64U << 10> buffer;
  while (text.size() < kMaxMapsBytes) {
    const ssize_t n = ::read(file.get(), buffer.data(), buffer.size());
    if (n == 0) return text;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_failure("maps");
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return text;
}

template <class T>
bool take_number(std::string_view& line, T& value, int base, char end)
{
  const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), value, base);
  if (error != std::errc{} || rest == line.data() + line.size() || *rest != end) return false;
  line.remove_prefix(static_cast<std::size_t>(rest - line.data()) + 1);
  return true;
}

std::string unescaped(std::string_view name)
{
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    // The kernel escapes the newline and nothing else.
    if (name.substr(i, 4) == "\\012") {
      out += '\n';
      i += 3;
    } else {
      out += name[i];
    }
  }
  return out;
}

// start-end perms offset major:minor inode   name
std::optional<Mapping> parse_mapping(std::string_view line)
{
  Mapping m;
  if (!take_number(line, m.start, 16, '-') || !take_number(line, m.end, 16, ' ') || line.size() < 5 || m.start >= m.end)
    return std::nullopt;
  m.is_readable = line[0] == 'r';
  m.is_executable = line[2] == 'x';
  line.remove_prefix(5);
  if (!take_number(line, m.file_offset, 16, ' ') || !take_number(line, m.device_major, 16, ':') ||
      !take_number(line, m.device_minor, 16, ' '))
    return std::nullopt;
  const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), m.inode);
  if (error != std::errc{}) return std::nullopt;
  line.remove_prefix(static_cast<std::size_t>(rest - line.data()));
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  constexpr std::string_view kDeleted = " (deleted)";
  if (line.ends_with(kDeleted) && m.inode != 0) {
    m.is_deleted = true;
    line.remove_suffix(kDeleted.size());
  }
  m.name = unescaped(line);
  return m;
}

bool checksum_fits(const ByteSource& bytes, std::uint64_t size, std::uint32_t expected)
{
  if (size > kMaxDebugFileBytes) return false;
  uLong crc = ::crc32(0, nullptr, 0);
  Bytes buffer(1U << 20);
  for (std::uint64_t at = 0; at < size;) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size - at));
    if (!bytes.read(at, std::span{buffer}.first(n))) return false;
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(buffer.data()), static_cast<uInt>(n));
    at += n;
  }
  return crc == expected;
}

}  // namespace

std::vector<Mapping> parse_maps(std::string_view text)
{
  std::vector<Mapping> maps;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    auto mapping = parse_mapping(text.substr(0, end));
    if (mapping && (maps.empty() || mapping->start >= maps.back().end)) maps.push_back(std::move(*mapping));
    text.remove_prefix(std::min(end + 1, text.size()));
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

Result<std::vector<Mapping>> ProcessDirectory::maps() const
{
  const Fd file(::openat(directory_.get(), "maps", O_RDONLY | O_CLOEXEC));
  if (!file) return errno_failure("maps");
  return read_all(file).map([](const std::string& text) { return parse_maps(text); });
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

ProcessDirectory::Opened ProcessDirectory::open_mapped(const std::vector<Mapping>& all, std::size_t index) const
{
  const Mapping& mapping = all[index];
  struct stat status {};
  const auto opened = [](Fd file) { return Opened{std::make_shared<FileBytes>(std::move(file)), true, 0, {}}; };
  std::uint64_t copied_bytes = 0;
  if (mapping.name == "[vdso]") {
    if (auto memory = copy_memory(all, mapping, copied_bytes)) return {std::move(memory), false, copied_bytes, {}};
    return {nullptr, false, 0, "cannot be read from memory: module and offset only"};
  }
  if (mapping.name.empty() || mapping.name.front() != '/') return {};

  int first_error = 0;
  bool not_regular = false;
  const auto failed = [&] {
    not_regular = not_regular || errno == ENODEV;
    if (first_error == 0) first_error = errno;
  };
  Fd other;  // of the same name, but another inode
  if (!mapping.is_deleted) {
    Fd file = reopen_regular(open_in_root(mapping.name), status);
    if (!file)
      failed();
    else if (same_file(mapping, status) != Same::kNo)
      return opened(std::move(file));
    else
      other = std::move(file);
    // A process in a chroot of our mount namespace: its maps have our names.
    if (Fd ours = reopen_regular(open_path(AT_FDCWD, mapping.name.c_str()), status);
        ours && same_file(mapping, status) == Same::kYes)
      return opened(std::move(ours));
  }
  if (Fd exe = reopen_regular(open_path(directory_.get(), "exe"), status);
      exe && same_file(mapping, status) != Same::kNo)
    return opened(std::move(exe));
  // Exact, but the kernel wants CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN for it.
  const std::string map_file = fmt::format("map_files/{:x}-{:x}", mapping.start, mapping.end);
  if (Fd file = reopen_regular(open_path(directory_.get(), map_file.c_str()), status)) return opened(std::move(file));
  failed();
  if (not_regular) return {nullptr, false, 0, "is not a regular file: module and offset only"};

  auto memory = copy_memory(all, mapping, copied_bytes);
  const bool was_replaced = static_cast<bool>(other);
  const auto loaded = memory ? ElfFile::read(memory) : failure("unreadable");
  if (other && loaded && !loaded->build_id().empty()) {
    // overlayfs on several filesystems shows other inodes than it maps.
    auto bytes = std::make_shared<FileBytes>(std::move(other));
    if (const auto candidate = ElfFile::read(bytes); candidate && candidate->build_id() == loaded->build_id())
      return {std::move(bytes), true, 0, {}};
  }
  const char* state = mapping.is_deleted ? "was deleted" : was_replaced ? "was replaced" : nullptr;
  const std::string reason =
      state != nullptr ? state : "cannot be opened (" + std::system_category().message(first_error) + ")";
  if (loaded) return {std::move(memory), false, copied_bytes, reason + ": exported names only, from its memory image"};
  return {nullptr, false, 0, reason + ": module and offset only"};
}

std::shared_ptr<const ByteSource> ProcessDirectory::copy_memory(const std::vector<Mapping>& all, const Mapping& of,
                                                                std::uint64_t& copied_bytes) const
{
  const Fd memory(::openat(directory_.get(), "mem", O_RDONLY | O_CLOEXEC));
  if (!memory) return nullptr;
  std::vector<MemoryBytes::Part> parts;
  for (const Mapping& part : all) {
    const bool same = part.name == of.name && part.inode == of.inode && part.device_major == of.device_major &&
                      part.device_minor == of.device_minor && part.is_deleted == of.is_deleted;
    const std::uint64_t bytes = part.end - part.start;
    if (!same || !part.is_readable || part.end > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()))
      continue;
    if (bytes > kMaxCopiedBytes - copied_bytes) return nullptr;
    copied_bytes += bytes;
    // Behind the end of the file there are no pages: keep what there is.
    Bytes copy(static_cast<std::size_t>(bytes));
    const ssize_t n = ::pread(memory.get(), copy.data(), copy.size(), static_cast<off_t>(part.start));
    if (n <= 0) continue;
    copy.resize(static_cast<std::size_t>(n));
    parts.push_back({part.file_offset, std::move(copy)});
  }
  if (parts.empty()) return nullptr;
  return std::make_shared<MemoryBytes>(std::move(parts));
}

std::optional<ElfFile> ProcessDirectory::find_debug_file(const ElfFile& program, const std::string& name) const
{
  const auto candidate = [&](const std::string& path, const DebugLink* link) -> std::optional<ElfFile> {
    for (const bool in_root : {true, false}) {
      struct stat status {};
      Fd file = reopen_regular(in_root ? open_in_root(path) : open_path(AT_FDCWD, path.c_str()), status);
      if (!file) continue;
      auto bytes = std::make_shared<FileBytes>(std::move(file));
      auto elf = ElfFile::read(bytes);
      if (!elf || elf->machine() != program.machine() || elf->is_64_bit() != program.is_64_bit()) continue;
      const bool fits =
          !program.build_id().empty() && !elf->build_id().empty()
              ? elf->build_id() == program.build_id()
              : link != nullptr && checksum_fits(*bytes, static_cast<std::uint64_t>(status.st_size), link->crc32);
      if (fits) return std::move(*elf);
    }
    return std::nullopt;
  };
  if (program.build_id().size() > 1) {
    std::string hex;
    for (const char byte : program.build_id()) hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    if (hex.size() <= 256)
      if (auto found =
              candidate(fmt::format("/usr/lib/debug/.build-id/{}/{}.debug", hex.substr(0, 2), hex.substr(2)), nullptr))
        return found;
  }
  const DebugLink link = program.debug_link();
  const std::size_t slash = name.rfind('/');
  if (link.name.empty() || name.empty() || name.front() != '/' || slash == std::string::npos) return std::nullopt;
  const std::string directory = name.substr(0, slash);
  for (const std::string& path : {directory + "/" + link.name, directory + "/.debug/" + link.name,
                                  "/usr/lib/debug" + directory + "/" + link.name})
    if (auto found = candidate(path, &link)) return found;
  return std::nullopt;
}

}  // namespace laggard::identify
