// SPDX-License-Identifier: MIT
// The functions of one ELF file by address. An address that no function's extent covers has no name: in a stripped
// library the nearest exported function before it is most often not the one it belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "identify/elf_file.h"

namespace laggard::identify {

class SymbolTable {
 public:
  struct Match {
    std::string_view name;  // as linked (mangled), without a version; valid as long as the table
    std::uint64_t offset = 0;
  };

  // From .symtab of `file`, which is `program` itself or its debug file. Nothing where it has none.
  static std::optional<SymbolTable> full(const ElfFile& file, const ElfFile& program);
  // From .dynsym; where there are no section headers, from what the dynamic linker reads. `load_bias` tells addresses
  // that it has relocated already, in an image from memory.
  static std::optional<SymbolTable> exported(const ElfFile& program, std::uint64_t load_bias = 0);

  std::optional<Match> find(std::uint64_t vaddr) const;
  bool empty() const { return entries_.empty(); }
  std::uint64_t held_bytes() const { return strings_.size() + entries_.size() * sizeof(Entry); }  // of our memory

 private:
  struct Entry {
    std::uint64_t vaddr = 0;
    std::uint64_t end = 0;          // vaddr + st_size
    std::uint64_t covered_end = 0;  // the largest `end` of this and all entries before
    std::uint32_t name = 0;         // in strings_
    std::uint32_t rank = 0;         // of several at one address the lowest is shown
  };

  static std::optional<SymbolTable> build(const Bytes& symbols, Bytes strings, const ElfFile& program, bool is_64_bit,
                                          bool all_symbols);
  static std::optional<SymbolTable> from_dynamic_segment(const ElfFile& program, std::uint64_t load_bias);

  std::vector<Entry> entries_;  // by vaddr
  Bytes strings_;
};

}  // namespace laggard::identify
