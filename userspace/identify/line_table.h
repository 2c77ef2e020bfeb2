// SPDX-License-Identifier: MIT
// Addresses to source lines, from .debug_line alone (DWARF 2 to 5). Not by libdw, which reads all of the debug
// information for it: for a browser gigabytes, and every byte of it from a program that may mean harm.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "identify/elf_file.h"

namespace laggard::identify {

class LineTable {
 public:
  struct Match {
    std::string file;  // absolute, or relative to a directory that only .debug_info knows (before DWARF 5)
    int line = 0;
  };

  static std::optional<LineTable> read(const ElfFile& file);  // nothing: no line numbers
  // Of code inlined from elsewhere: the line there.
  std::optional<Match> find(std::uint64_t vaddr) const;
  std::uint64_t held_bytes() const;  // of our memory

 private:
  struct Sequence {  // of machine instructions, ascending
    std::uint64_t low = 0, high = 0;
    std::uint32_t unit_at = 0, program_at = 0, program_end = 0;  // in lines_
  };
  struct Unit;
  struct Row {
    std::uint64_t vaddr = 0, file = 1;
    std::int64_t line = 1;
  };

  std::optional<Unit> read_unit(std::size_t at) const;
  std::string file_name(const Unit& unit, std::uint64_t file) const;
  template <class OnRow>
  void run(const Unit& unit, std::size_t from, std::size_t to, OnRow on_row) const;

  Bytes lines_, line_strings_;
  std::vector<Sequence> sequences_;  // by low
};

}  // namespace laggard::identify
