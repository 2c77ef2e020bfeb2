// SPDX-License-Identifier: MIT
// What a process maps, and the files of it: the very ones, whatever its mount namespace, deleted or replaced.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::identify {

struct Mapping {
  std::uint64_t start = 0, end = 0;
  std::uint64_t file_offset = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::uint64_t inode = 0;
  bool is_executable = false;
  bool is_deleted = false;
  std::string name;  // a path as the process sees it, "[heap]", or empty
};

// In ascending order without overlaps. Lines that are none are passed over.
std::vector<Mapping> parse_maps(const std::string& text);

// What a reader of symbols wants of a process: who may open its files need not be who reads them.
class ProcessFiles {
 public:
  virtual ~ProcessFiles() = default;
  // Errors: not permitted (EACCES, EPERM), or gone (ESRCH, ENOENT).
  virtual Result<std::vector<Mapping>> maps() = 0;
  // The file behind a mapping. Errors: a clause to follow its name.
  virtual Result<Fd> open_mapped(const Mapping& mapping) = 0;
  // Its bytes in memory, at most 1 MiB of them: for "[vdso]", which has no file. Empty: not to be had.
  virtual std::vector<char> read_memory(const Mapping& mapping) = 0;
  // Regular files of this name: the process's, then ours.
  virtual std::vector<Fd> open_named(const std::string& path) = 0;
};

// The mappings in an open /proc/TGID/maps: as many as that many bytes hold, by default half a million; vm.max_map_count is
// 65530. Errors: as ProcessFiles::maps() has them.
Result<std::vector<Mapping>> read_maps(const Fd& file, std::size_t most_bytes = 64U << 20);

// The directory /proc/TGID, held open: after the process is gone it is nobody else's.
class ProcessDirectory final : public ProcessFiles {
 public:
  // Errors: there is no such process.
  static Result<ProcessDirectory> open(std::uint32_t tgid, const std::string& proc);

  Result<Fd> open_maps() const;
  Result<std::vector<Mapping>> maps() override;
  Result<Fd> open_mapped(const Mapping& mapping) override;
  std::vector<char> read_memory(const Mapping& mapping) override;
  std::vector<Fd> open_named(const std::string& path) override;

 private:
  ProcessDirectory(Fd directory, Fd root) : directory_(std::move(directory)), root_(std::move(root)) {}
  Fd open_in_root(const std::string& path) const;

  Fd directory_;
  Fd root_;  // the process's; none where that is not permitted
};

}  // namespace laggard::identify
