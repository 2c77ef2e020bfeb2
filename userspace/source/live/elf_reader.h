// SPDX-License-Identifier: MIT
// ELF and DWARF of other people's programs, read by processes that may do nothing else (confinement.h). laggard opens the files, and
// reads none of them: a file that takes a reader over, or down, has a reader without a capability, of which there is a new one for
// each task.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/time.h"
#include "identify/functions.h"
#include "identify/process_maps.h"
#include "identify/symbols.h"
#include "source/live/elf_messages.h"

namespace laggard::source::live {

// Functions that are looked for together; "usdt:provider:name" is a USDT probe.
struct WantedFunctions {
  std::vector<std::string> begins, others;
  bool is_meant = true;  // names that are like what is missing are wanted, too; else only if one of `begins` is there
};
struct FileFunctions {
  std::string trouble;  // why there are no functions, as FunctionTable::open() says it; empty: there are, or none were wanted
  identify::CallingConvention convention = identify::CallingConvention::SystemV;
  std::map<std::string, std::vector<std::uint64_t>> offsets;   // by name as wanted; none: there is no such function
  std::map<std::string, std::vector<std::string>> similar_to;  // of those, where they are wanted
  std::set<std::string> usdts;                                 // of those that are wanted, "usdt:provider:name"
};

// Opens files of one process for a reader, which names them; only those that the process has mapped as code, and their debug
// files.
class ElfFiles {
 public:
  static Result<ElfFiles> open(std::uint32_t tgid, const std::string& proc, std::size_t most_bytes_of_maps);
  // Errors: the reader has left.
  Result<void> answer(int socket, const ElfPacket& question);

 private:
  ElfFiles(identify::ProcessDirectory directory, std::size_t most_bytes) : directory_(std::move(directory)), most_bytes_(most_bytes) {}
  const identify::Mapping* code_at(std::uint64_t start) const;
  bool may_name(const std::string& path) const;

  identify::ProcessDirectory directory_;
  std::size_t most_bytes_;
  std::vector<identify::Mapping> maps_;
};

// One task of a reader: a process of its own, which ends with this.
struct ElfTask {
  Fd socket;
  std::optional<ElfFiles> files;
  // Answers what the reader asks for; its own answer, once it is there. Errors: a clause that follows a file's name.
  Result<std::optional<std::string>> take(bool waits, std::uint64_t memory_bytes);
};

class ElfReader {
 public:
  static constexpr std::uint64_t kMemoryBytes = 1ULL << 30;  // Chromium's symbols take half of it

  // Forks the starter of readers: to be called while this process has one thread and no secrets. A reader gets at most
  // `memory_bytes`, and half of what the cgroup may have. Errors: a process cannot be confined here.
  static Result<std::unique_ptr<ElfReader>> start(std::uint64_t memory_bytes = kMemoryBytes, const std::string& proc = "/proc");
  ~ElfReader();
  ElfReader(const ElfReader&) = delete;
  ElfReader& operator=(const ElfReader&) = delete;

  // These return at once. take() calls `done`, whose errors are clauses that follow the file's name.
  // `file` stays open until then.
  using FunctionsDone = std::function<void(Result<FileFunctions>)>;
  void find_functions(int file, const std::vector<WantedFunctions>& wanted, FunctionsDone done);
  // Innermost first, up to the first that is no code. Without symbols, functions of Go programs by Go's own table.
  using NamesDone = std::function<void(Result<std::vector<identify::Frame>>)>;
  void name(std::uint32_t tgid, const std::vector<std::uint64_t>& addresses, NamesDone done);

  // A file each: better ask later.
  bool is_full() const { return tasks_.size() >= kMostTasks; }
  bool is_idle() const { return tasks_.empty(); }
  // Readable when take() has work; take() is wanted now and then all the same.
  int fd() const { return epoll_.get(); }
  void take();
  // Until is_idle(), but not for longer.
  void settle(Duration at_most);

  // For ElfSymbols. Of seconds 0 are none.
  Result<ElfTask> begin(std::uint32_t cpu_seconds, std::uint32_t seconds);
  std::uint64_t memory_bytes() const { return memory_bytes_; }
  const std::string& proc() const { return proc_; }
  pid_t starter() const { return starter_; }

 private:
  static constexpr std::size_t kMostTasks = 128;
  enum class Kind : std::uint8_t { Functions, Names };
  struct Task {
    Kind kind;
    std::uint32_t tgid;
    int file;
    std::string request;
    std::function<void(Result<std::string>)> done;
  };

  ElfReader() = default;
  bool start_next();
  void finish(Result<std::string> answer);

  pid_t starter_ = -1;
  Fd control_, epoll_;
  std::uint64_t memory_bytes_ = 0;
  std::string proc_;
  std::deque<Task> tasks_;           // the first one runs, if one does
  std::optional<ElfTask> running_;
  MonoTime begun_{};
  std::map<Kind, MonoTime> pauses_until_;
};

// identify::Symbols by a reader, which lives as long as this; all calls wait for it. If it ends, addresses are all there is.
class ElfSymbols {
 public:
  // Errors: as Symbols::open() has them, or why a reader cannot read.
  static Result<ElfSymbols> open(ElfReader& reader, std::uint32_t tgid);
  Result<void> remap();
  std::vector<std::uint64_t> unwind(const identify::StackCopy& stack, std::size_t max_frames = 64);
  identify::Frame resolve(std::uint64_t address, bool is_return_address);
  const std::vector<std::string>& missing() const { return missing_; }

 private:
  ElfSymbols(ElfTask task, std::uint64_t memory_bytes) : task_(std::move(task)), memory_bytes_(memory_bytes) {}
  Result<std::string> ask(ElfMessage what, const std::string& request);
  void keep_missing(Unpacker& from);

  ElfTask task_;
  std::uint64_t memory_bytes_;
  std::vector<std::string> missing_;
};

}  // namespace laggard::source::live
