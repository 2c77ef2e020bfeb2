// SPDX-License-Identifier: MIT
// Where functions begin in a program or library on disk: by its ELF symbols and, in Go programs whose symbols are
// stripped, by the table that the Go runtime itself uses (.gopclntab).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::identify {

class ElfImage;

struct Function {
  std::string name;               // as linked; may be longer than 1 KiB
  std::uint64_t file_offset = 0;  // of its first instruction: what a uprobe takes
};

// Who puts arguments where.
enum class CallingConvention : std::uint8_t { SystemV, Go };

class FunctionTable {
 public:
  // Errors, each a clause that follows the file's name: "cannot be opened: ...", "is not a regular file", "is no ELF
  // file", "is built for AArch64, and this host is x86-64", "has damaged ELF headers", "holds debug information of
  // another file, ...", "has neither symbols nor a Go function table", "is built by a Go before 1.18, ...", "has more
  // names than fit into ... bytes". A file that is damaged further on has fewer functions.
  static Result<FunctionTable> open(Fd file);
  static Result<FunctionTable> open(ElfImage image);
  static Result<FunctionTable> open(const std::string& path);

  // Functions of exactly this name, more than one if they are local, or versions or (in Go) instances of one. If there
  // is none and it contains `*`: all that match, where a `*` behind a parenthesis is itself and any other stands for
  // any bytes, also none: "net/http.(*persistConn).read*". Names are as linked, without versions ("pthread_create"). If
  // there is none of these, C++ names as people write them: "shop::Cart::add", of every overload and instance, or with the
  // parameters of one, "shop::Cart::add(int)".
  // Names for which the loader chooses a function (libc's memcpy) are left out. Each address once, ascending. Empty:
  // none.
  std::vector<Function> find(std::string_view name) const;
  // The function that this offset in the file is in: the nearest one that begins at or before it; empty: none.
  std::string at(std::uint64_t file_offset) const;
  // The names that are most like it, for an error message; at most `count`.
  std::vector<std::string> similar(std::string_view name, std::size_t count = 3) const;
  // Of the file, not of each function: Go's, too, for the C in a program that uses cgo.
  CallingConvention calling_convention() const { return convention_; }

 private:
  std::vector<Function> functions_;
  CallingConvention convention_ = CallingConvention::SystemV;
};

}  // namespace laggard::identify
