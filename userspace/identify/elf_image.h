// SPDX-License-Identifier: MIT
// An ELF file of this host's kind, read with pread() and not by libelf: every offset in it is its author's, so each is
// checked in one place, and what is read and kept of it is bounded.
#pragma once

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::identify {

using ByteView = std::string_view;

template <class T>
std::optional<T> value_at(ByteView bytes, std::uint64_t offset)
{
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

inline ByteView from(ByteView bytes, std::uint64_t offset)
{
  return bytes.substr(std::min<std::uint64_t>(offset, bytes.size()));
}

struct ElfSection {
  Elf64_Shdr header{};
  std::string name;
  std::optional<std::string> contents;  // once ElfImage::contents() was asked
};

class ElfImage {
 public:
  // Read of a file and kept of its names, all together. Chromium with symbols has about half of it.
  static constexpr std::uint64_t kMaxBytes = 1ULL << 30;

  // Errors: as FunctionTable::open() has them.
  static Result<ElfImage> open(Fd file);

  std::vector<ElfSection>& sections()
  {
    return sections_;
  }                                            // by their number; none in a file that has no headers of them
  ElfSection* section(std::string_view name);  // null: none
  ByteView contents(ElfSection& section);      // empty: none, packed or damaged. Valid as long as this
  // What the loader will have put at an offset of a section. Nothing: null, or damaged.
  std::optional<std::uint64_t> pointer_at(ElfSection& section, std::uint64_t offset);
  // Up to the NUL. Empty: damaged, or kMaxBytes are used up.
  std::string_view name_at(ByteView names, std::uint64_t offset);
  // Of code.
  std::optional<std::uint64_t> file_offset_of(std::uint64_t vaddr) const;
  bool is_exhausted() const { return is_exhausted_; }  // something was left out for kMaxBytes

 private:
  bool charge(std::uint64_t bytes);
  std::string read(std::uint64_t offset, std::uint64_t bytes);

  Fd file_;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t budget_ = kMaxBytes;
  bool is_exhausted_ = false;
  std::vector<ElfSection> sections_;  // by their number
  std::vector<Elf64_Phdr> code_;      // the segments that are mapped executable
};

}  // namespace laggard::identify
