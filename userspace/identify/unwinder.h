// SPDX-License-Identifier: MIT
// From registers and a copy of a stack to return addresses, by libdw. One session over many stacks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "identify/bytes.h"

namespace laggard::identify {

// A thread as it was: user registers and the memory from its stack pointer up.
struct StackCopy {
  // In DWARF's order. x86-64: rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip, 17. AArch64: x0..x30 sp pc, 33.
  std::array<std::uint64_t, 33> registers{};
  std::size_t register_count = 0;
  Bytes bytes;
};

class Unwinder {
 public:
  struct Code {  // an executable mapping
    std::uint64_t start = 0, end = 0;
  };
  // An ELF image with the unwind tables of code[index] (UnwindTables::image); empty: it has none. Asked once each, and
  // only for code that a stack leads to.
  using Image = std::function<Bytes(std::size_t index)>;

  // `code` does not overlap and is in ascending order; empty: unknown, any address may be code.
  Unwinder(std::vector<Code> code, Image image);
  ~Unwinder();
  Unwinder(const Unwinder&) = delete;
  Unwinder& operator=(const Unwinder&) = delete;

  // Where the thread was, then return addresses, innermost first. It ends where the tables or the copied bytes do, or
  // at an address that is not code. Code without tables is taken to keep frame pointers. Empty: registers are missing.
  std::vector<std::uint64_t> unwind(const StackCopy& stack, std::size_t max_frames);

 private:
  struct Session;
  std::unique_ptr<Session> session_;
};

}  // namespace laggard::identify
