// SPDX-License-Identifier: MIT
// The unwind tables of one ELF file (.eh_frame), checked, and packed into an ELF image of their own for libdw.
//
// libdw believes unwind tables: a register number in them is the size of an allocation, a search table entry the place
// to read at. They come from whatever a process maps. So libdw sees nothing but a well-formed image of ours that holds
// tables in which every instruction has been looked at; what does not pass is not used.
#pragma once

#include <cstdint>
#include <optional>

#include "identify/elf_file.h"

namespace laggard::identify {

struct UnwindTables {
  Bytes eh_frame;  // as in the file
  std::uint64_t eh_frame_vaddr = 0;
  Bytes search_table;  // .eh_frame_hdr; empty: none that can be trusted, which only costs time
  std::uint64_t search_table_vaddr = 0;

  // Errors: the tables are malformed. Nothing: there are none, or they are another machine's.
  static Result<std::optional<UnwindTables>> read(const ElfFile& program);

  std::uint64_t held_bytes() const { return eh_frame.size() + search_table.size(); }  // of our memory

  // An ELF file that says: mapped from `vaddr` on, these tables.
  Bytes image(std::uint64_t vaddr, std::uint64_t mapped_bytes) const;
};

}  // namespace laggard::identify
