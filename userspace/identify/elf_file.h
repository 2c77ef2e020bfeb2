// SPDX-License-Identifier: MIT
// The parts of an ELF file that say where things are. It reads what it is asked for, from a file or from the memory
// of a process, and believes nothing: every size has a bound. Both word sizes, little-endian only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "identify/bytes.h"

namespace laggard::identify {

struct ElfSegment {
  std::uint32_t type = 0;   // PT_*
  std::uint32_t flags = 0;  // PF_*
  std::uint64_t offset = 0, vaddr = 0, file_bytes = 0, memory_bytes = 0;
};

struct ElfSection {
  std::string name;         // of a longer one its first 32 characters: only standard names are looked for
  std::uint32_t type = 0;   // SHT_*
  std::uint64_t flags = 0;  // SHF_*
  std::uint64_t vaddr = 0, offset = 0, bytes = 0;
  std::uint32_t link = 0;
};

// What tells a separate debug file from any other (.gnu_debuglink).
struct DebugLink {
  std::string name;  // without a directory; empty: there is none
  std::uint32_t crc32 = 0;
};

class ElfFile {
 public:
  // Errors: not ELF, not this machine's byte order, no program headers that could be mapped.
  static Result<ElfFile> read(std::shared_ptr<const ByteSource> bytes);

  bool is_64_bit() const { return is_64_bit_; }
  std::uint16_t machine() const { return machine_; }  // EM_*
  const std::vector<ElfSegment>& segments() const { return segments_; }
  // Empty where there are none: sstrip, or an image in memory.
  const std::vector<ElfSection>& sections() const { return sections_; }
  const ElfSection* section(std::string_view name) const;
  const ElfSection* section_of_type(std::uint32_t type) const;
  const ElfSegment* segment(std::uint32_t type) const;

  // Decompressed if need be; nothing where the section has no bytes, more than `limit`, or cannot be read.
  std::optional<Bytes> contents(const ElfSection& section, std::uint64_t limit) const;
  // What is mapped at a virtual address of the file.
  std::optional<Bytes> memory(std::uint64_t vaddr, std::uint64_t bytes) const;
  // Mapped bytes of the file from `vaddr` to the end of its segment.
  std::uint64_t mapped_bytes_after(std::uint64_t vaddr) const;
  // The virtual address that a page at `offset` of the file is mapped for, in an executable segment if there is one.
  std::optional<std::uint64_t> vaddr_of(std::uint64_t offset) const;
  bool is_code(std::uint64_t vaddr) const;

  const std::string& build_id() const { return build_id_; }  // raw bytes; empty: none
  DebugLink debug_link() const;

  // Lets go of the bytes: no contents any more, but everything that was read already.
  void close() { bytes_ = std::make_shared<MemoryBytes>(std::vector<MemoryBytes::Part>{}); }

 private:
  explicit ElfFile(std::shared_ptr<const ByteSource> bytes) : bytes_(std::move(bytes)) {}
  template <class Ehdr, class Phdr, class Shdr>
  bool read_headers();
  std::optional<Bytes> read_bytes(std::uint64_t offset, std::uint64_t size, std::uint64_t limit) const;
  std::optional<Bytes> decompressed(const Bytes& packed, std::uint64_t limit) const;
  std::string find_build_id() const;

  std::shared_ptr<const ByteSource> bytes_;
  bool is_64_bit_ = true;
  std::uint16_t machine_ = 0;
  std::vector<ElfSegment> segments_;
  std::vector<ElfSection> sections_;
  std::string build_id_;
};

}  // namespace laggard::identify
