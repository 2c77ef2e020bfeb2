// SPDX-License-Identifier: MIT
// The program and library files that processes run, each once however many run it.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace laggard::source::live {

// A file, whatever its name and mount namespace. One that takes the inode over was born later.
struct FileId {
  std::uint64_t device = 0;  // 0 where it does not tell files apart: see open_program()
  std::uint64_t inode = 0;
  std::int64_t born_ns = 0;
  std::uint64_t bytes = 0;
  auto operator<=>(const FileId&) const = default;
};

struct ProgramFile {
  FileId id;         // as stat() sees it from here: in two containers the same file may have two
  std::string path;  // to open it by, while the process lives: it may be deleted or replaced where its name points
  std::string name;  // as the process knows it
  bool is_library = false;
  std::uint32_t tgid = 0;  // who runs it; 0: found by its path
};

// Is it the file that a pair asks for? `wanted`: an absolute path; or a file name, `*` allowed, of a library if it says ".so".
bool is_wanted(std::string_view wanted, const ProgramFile& file);

struct ProgramsSeen {
  unsigned processes = 0;
  unsigned unreadable = 0;  // of other users, without CAP_SYS_PTRACE
};
enum class Libraries : std::uint8_t { None, OncePerFile, OncePerProcess };
using FoundProgram = std::function<void(const ProgramFile&)>;
// Calls `found` for the executable of every process and, if asked to, for all that it maps executable, too.
ProgramsSeen each_program(Libraries libraries, const FoundProgram& found, const std::string& proc = "/proc");
// Of one process.
void each_program_of(std::uint32_t tgid, bool libraries, const FoundProgram& found, const std::string& proc = "/proc");

// The file at a path of ours. False: there is none.
bool file_at(const std::string& path, ProgramFile& file);

// Held open: /proc/self/fd/N is this file and no other until it is closed. The identity is that of the file itself:
// each overlay of a container shows the same lower file on a device of its own, and a probe is in the lower one. Empty: gone.
struct OpenProgram {
  Fd fd;
  FileId id;
  std::string path() const;
};
OpenProgram open_program(const ProgramFile& file);

}  // namespace laggard::source::live
