// SPDX-License-Identifier: MIT
// What a process maps, and the files of it: the very ones, whatever its mount namespace, deleted or replaced.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "identify/elf_file.h"

namespace laggard::identify {

struct Mapping {
  std::uint64_t start = 0, end = 0;
  std::uint64_t file_offset = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::uint64_t inode = 0;
  bool is_readable = false, is_executable = false;
  bool is_deleted = false;
  std::string name;  // a path as the process sees it, "[heap]", or empty
};

// In ascending order without overlaps. Lines that are none are passed over.
std::vector<Mapping> parse_maps(std::string_view text);

// The directory /proc/TGID, held open: after the process is gone it is nobody else's.
class ProcessDirectory {
 public:
  // Errors: there is no such process.
  static Result<ProcessDirectory> open(std::uint32_t tgid, const std::string& proc);

  // Errors: not permitted (EACCES, EPERM), or gone (ESRCH, ENOENT).
  Result<std::vector<Mapping>> maps() const;

  struct Opened {
    std::shared_ptr<const ByteSource> bytes;  // null: not to be had
    bool holds_descriptor = false;
    std::uint64_t copied_bytes = 0;  // of its memory: only what was mapped of the file
    std::string trouble;             // why not, or what it lacks; a clause to follow the name
  };
  // The file behind all[index], all being maps().
  Opened open_mapped(const std::vector<Mapping>& all, std::size_t index) const;

  // A separate debug file of `program`, from the process's /usr/lib/debug or ours. Nothing: there is none that fits.
  std::optional<ElfFile> find_debug_file(const ElfFile& program, const std::string& name) const;

 private:
  ProcessDirectory(Fd directory, Fd root) : directory_(std::move(directory)), root_(std::move(root)) {}
  Fd open_in_root(const std::string& path) const;
  std::shared_ptr<const ByteSource> copy_memory(const std::vector<Mapping>& all, const Mapping& of,
                                                std::uint64_t& copied_bytes) const;

  Fd directory_;
  Fd root_;  // the process's; none where that is not permitted
};

}  // namespace laggard::identify
