// SPDX-License-Identifier: MIT
// Names for the addresses of one process, and the callers of a thread whose stack was copied. Everything comes from
// files and memory on this machine: no server is asked, nothing is started, the process is not stopped.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "identify/process_maps.h"

namespace laggard::identify {

using Bytes = std::vector<std::byte>;

// Of StackCopy::registers.
#if defined(__aarch64__)
inline constexpr std::size_t kStackPointer = 31;
#else
inline constexpr std::size_t kStackPointer = 7;
#endif

// A thread as it was: user registers and the memory from its stack pointer up.
struct StackCopy {
  // In DWARF's order. x86-64: rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip, 17. AArch64: x0..x30 sp pc, 33.
  std::array<std::uint64_t, 33> registers{};
  std::size_t register_count = 0;
  Bytes bytes;
};

// Names are bytes that a program chose: escape them before they reach a terminal.
struct Frame {
  std::uint64_t address = 0;        // as asked
  std::string symbol;               // demangled C++, others as linked; empty: unknown
  std::uint64_t symbol_offset = 0;  // of address within symbol
  std::string module;               // a path as mapped, "[vdso]", "[heap]"; empty: anonymous memory, or not mapped
  // Of an ELF file's code its virtual address there, as addr2line takes it; otherwise the offset in the file, of
  // "[heap]" and the like from its start.
  std::uint64_t module_offset = 0;
  std::string source_file;  // empty: no line numbers
  int source_line = 0;      // of inlined code the line there; symbol is the function that it is inlined in
};

// What it reads may be meant to harm, and elfutils believes it: to be used in a process that has nothing to lose
// (source/live/elf_reader.h). What does not fit into its RLIMIT_DATA has no names.
class Symbols {
 public:
  // The process's mappings as they are now. Files with code are opened now, so that a process which exits can still be
  // looked at: at most 512, those beyond have no names. The root of the process stays open, too, which holds its mount
  // in place.
  // Errors: there is no such process. Mappings that may not be read are no error: see missing().
  static Result<Symbols> open(std::uint32_t tgid, const std::string& proc = "/proc");
  // The same of files that somebody else opens. `only`: files in which none of these addresses are need not be opened;
  // empty: all.
  static Result<Symbols> open(std::uint32_t tgid, std::unique_ptr<ProcessFiles> files,
                              std::span<const std::uint64_t> only = {});
  Symbols(Symbols&&) noexcept;
  Symbols& operator=(Symbols&&) noexcept;
  ~Symbols();

  // After an exec or a dlopen: the mappings as they are now. Files that are still mapped are not opened again.
  // Errors: the process is gone; what was known stays.
  Result<void> remap();

  // Where the thread was, then its return addresses, innermost first, at most max_frames. It ends where the unwind
  // tables or the copied bytes do, or at an address that was not code at open() or remap(). Code without tables
  // (generated at run time) is taken to keep frame pointers. Empty: registers are missing.
  std::vector<std::uint64_t> unwind(const StackCopy& stack, std::size_t max_frames = 64);

  // A return address belongs to the call before it, which may be the last instruction of its function. Of unwind()
  // all but the first are return addresses; so are all of bpf_get_stackid() but the first.
  Frame resolve(std::uint64_t address, bool is_return_address);

  // One sentence for each thing that could not be had, without a full stop: of a file once resolve() came upon it.
  // Grows; valid until the next call.
  const std::vector<std::string>& missing() const;

 private:
  struct State;
  explicit Symbols(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace laggard::identify
