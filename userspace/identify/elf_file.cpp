// SPDX-License-Identifier: MIT
#include "identify/elf_file.h"

#include <elf.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <bit>
#include <cstring>

namespace laggard::identify {
namespace {

static_assert(std::endian::native == std::endian::little, "ELF files are read in this machine's byte order");

constexpr std::size_t kMaxSegments = 1024;    // the kernel maps at most 64 KiB of headers, about 1170
constexpr std::size_t kMaxSections = 0xff00;  // SHN_LORESERVE; more needs -ffunction-sections and no linking
constexpr std::uint64_t kMaxSectionNames = 4ULL << 20;
constexpr std::uint64_t kMaxNoteBytes = 64ULL << 10;    // notes are some hundred bytes
constexpr std::uint64_t kMaxDebugLinkBytes = 4096 + 8;  // a name and a checksum
constexpr std::size_t kMaxSectionName = 32;

template <class T>
bool read_object(const ByteSource& bytes, std::uint64_t offset, T& out)
{
  return bytes.read(offset, std::as_writable_bytes(std::span{&out, 1}));
}

std::string build_id_in(std::span<const std::byte> notes)
{
  Cursor cursor(notes);
  while (cursor.ok() && !cursor.at_end()) {
    const auto name_bytes = cursor.take<std::uint32_t>();
    const auto value_bytes = cursor.take<std::uint32_t>();
    const auto type = cursor.take<std::uint32_t>();
    const auto padded = [](std::uint64_t size) { return (size + 3) & ~std::uint64_t{3}; };
    const std::size_t name_at = cursor.at();
    cursor.skip(padded(name_bytes));
    const std::size_t value_at = cursor.at();
    cursor.skip(value_bytes);
    if (!cursor.ok()) break;
    if (type == NT_GNU_BUILD_ID && name_bytes == 4 && std::memcmp(notes.data() + name_at, "GNU", 4) == 0)
      return {reinterpret_cast<const char*>(notes.data()) + value_at, value_bytes};
    cursor.skip(padded(value_bytes) - value_bytes);
  }
  return {};
}

}  // namespace

template <class Ehdr, class Phdr, class Shdr>
bool ElfFile::read_headers()
{
  Ehdr header;
  if (!read_object(*bytes_, 0, header)) return false;
  machine_ = header.e_machine;
  if (header.e_phentsize == sizeof(Phdr)) {
    for (std::size_t i = 0; i < std::min<std::size_t>(header.e_phnum, kMaxSegments); ++i) {
      Phdr phdr;
      if (!read_object(*bytes_, header.e_phoff + i * sizeof phdr, phdr)) break;
      segments_.push_back({phdr.p_type, phdr.p_flags, phdr.p_offset, phdr.p_vaddr, phdr.p_filesz, phdr.p_memsz});
    }
  }
  if (header.e_shentsize == sizeof(Shdr) && header.e_shoff != 0 && header.e_shnum <= kMaxSections) {
    std::vector<Shdr> table(header.e_shnum);
    if (!table.empty() && bytes_->read(header.e_shoff, std::as_writable_bytes(std::span{table}))) {
      std::optional<Bytes> names;
      if (header.e_shstrndx < table.size()) {
        const Shdr& strings = table[header.e_shstrndx];
        names = read_bytes(strings.sh_offset, strings.sh_size, kMaxSectionNames);
      }
      for (const Shdr& shdr : table) {
        const std::string_view name = names ? text_at(*names, shdr.sh_name) : std::string_view{};
        sections_.push_back({std::string(name.substr(0, kMaxSectionName)), shdr.sh_type, shdr.sh_flags, shdr.sh_addr,
                             shdr.sh_offset, shdr.sh_size, shdr.sh_link});
      }
    }
  }
  return !segments_.empty() || !sections_.empty();
}

Result<ElfFile> ElfFile::read(std::shared_ptr<const ByteSource> bytes)
{
  std::array<unsigned char, EI_NIDENT> ident;
  if (!bytes->read(0, std::as_writable_bytes(std::span{ident})) || std::memcmp(ident.data(), ELFMAG, SELFMAG) != 0)
    return failure("it is not an ELF file");
  if (ident[EI_DATA] != ELFDATA2LSB) return failure("it is a big-endian ELF file");
  ElfFile elf(std::move(bytes));
  elf.is_64_bit_ = ident[EI_CLASS] == ELFCLASS64;
  const bool complete = elf.is_64_bit_ ? elf.read_headers<Elf64_Ehdr, Elf64_Phdr, Elf64_Shdr>()
                                       : elf.read_headers<Elf32_Ehdr, Elf32_Phdr, Elf32_Shdr>();
  if (!complete) return failure("its ELF headers are damaged");
  elf.build_id_ = elf.find_build_id();
  return elf;
}

const ElfSection* ElfFile::section(std::string_view name) const
{
  const auto found = std::find_if(sections_.begin(), sections_.end(), [&](const auto& s) { return s.name == name; });
  return found == sections_.end() ? nullptr : &*found;
}

const ElfSection* ElfFile::section_of_type(std::uint32_t type) const
{
  const auto found = std::find_if(sections_.begin(), sections_.end(), [&](const auto& s) { return s.type == type; });
  return found == sections_.end() ? nullptr : &*found;
}

const ElfSegment* ElfFile::segment(std::uint32_t type) const
{
  const auto found = std::find_if(segments_.begin(), segments_.end(), [&](const auto& s) { return s.type == type; });
  return found == segments_.end() ? nullptr : &*found;
}

std::optional<Bytes> ElfFile::read_bytes(std::uint64_t offset, std::uint64_t size, std::uint64_t limit) const
{
  if (size == 0 || size > limit) return std::nullopt;
  // The last byte first: a size that the file does not have costs no memory.
  std::byte last;
  if (offset > UINT64_MAX - size || !bytes_->read(offset + size - 1, std::span{&last, 1})) return std::nullopt;
  Bytes out(static_cast<std::size_t>(size));
  if (!bytes_->read(offset, out)) return std::nullopt;
  return out;
}

std::optional<Bytes> ElfFile::contents(const ElfSection& section, std::uint64_t limit) const
{
  if (section.type == SHT_NOBITS) return std::nullopt;
  std::optional<Bytes> bytes = read_bytes(section.offset, section.bytes, limit);
  if (bytes && (section.flags & SHF_COMPRESSED) != 0) return decompressed(*bytes, limit);
  return bytes;
}

std::optional<Bytes> ElfFile::decompressed(const Bytes& packed, std::uint64_t limit) const
{
  Cursor cursor(packed);
  const auto type = cursor.take<std::uint32_t>();
  std::uint64_t size = 0;
  if (is_64_bit_) {
    cursor.skip(4);
    size = cursor.take<std::uint64_t>();
    cursor.skip(8);
  } else {
    size = cursor.take<std::uint32_t>();
    cursor.skip(4);
  }
  if (!cursor.ok() || size == 0 || size > limit) return std::nullopt;
  const std::span<const std::byte> input = std::span{packed}.subspan(cursor.at());
  constexpr std::uint64_t kMaxRatio = 1032;  // zlib packs no better (its technical notes): a small bomb stays small
  if (size / kMaxRatio > input.size()) return std::nullopt;
  Bytes out(static_cast<std::size_t>(size));
  if (type == ELFCOMPRESS_ZLIB) {
    uLongf n = static_cast<uLongf>(out.size());
    if (::uncompress(reinterpret_cast<Bytef*>(out.data()), &n, reinterpret_cast<const Bytef*>(input.data()),
                     static_cast<uLong>(input.size())) != Z_OK ||
        n != out.size())
      return std::nullopt;
    return out;
  }
  constexpr std::uint32_t kZstd = 2;  // ELFCOMPRESS_ZSTD: glibc's elf.h has it since 2.37
  if (type == kZstd && ::ZSTD_decompress(out.data(), out.size(), input.data(), input.size()) == out.size()) return out;
  return std::nullopt;
}

std::uint64_t ElfFile::mapped_bytes_after(std::uint64_t vaddr) const
{
  for (const ElfSegment& segment : segments_)
    if (segment.type == PT_LOAD && vaddr >= segment.vaddr && vaddr - segment.vaddr < segment.file_bytes)
      return segment.file_bytes - (vaddr - segment.vaddr);
  return 0;
}

std::optional<Bytes> ElfFile::memory(std::uint64_t vaddr, std::uint64_t bytes) const
{
  for (const ElfSegment& segment : segments_)
    if (segment.type == PT_LOAD && vaddr >= segment.vaddr && vaddr - segment.vaddr < segment.file_bytes &&
        bytes <= segment.file_bytes - (vaddr - segment.vaddr))
      return read_bytes(segment.offset + (vaddr - segment.vaddr), bytes, bytes);
  return std::nullopt;
}

std::optional<std::uint64_t> ElfFile::vaddr_of(std::uint64_t offset) const
{
  static const auto page_mask = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) - 1;
  std::optional<std::uint64_t> found;
  for (const ElfSegment& segment : segments_) {
    // Where two segments meet within a page, that page is mapped for both.
    const std::uint64_t page = segment.offset & ~page_mask;
    if (segment.type != PT_LOAD || offset < page || offset - page >= segment.file_bytes + (segment.offset - page))
      continue;
    const std::uint64_t vaddr = segment.vaddr - segment.offset + offset;
    if ((segment.flags & PF_X) != 0) return vaddr;
    if (!found) found = vaddr;
  }
  return found;
}

bool ElfFile::is_code(std::uint64_t vaddr) const
{
  return std::any_of(segments_.begin(), segments_.end(), [&](const ElfSegment& segment) {
    return segment.type == PT_LOAD && (segment.flags & PF_X) != 0 && vaddr >= segment.vaddr &&
           vaddr - segment.vaddr < segment.memory_bytes;
  });
}

std::string ElfFile::find_build_id() const
{
  // Sections first: in a separate debug file the segments' offsets mean nothing.
  for (const ElfSection& section : sections_) {
    if (section.type != SHT_NOTE) continue;
    if (const auto notes = contents(section, kMaxNoteBytes))
      if (std::string id = build_id_in(*notes); !id.empty()) return id;
  }
  if (!sections_.empty()) return {};
  for (const ElfSegment& segment : segments_) {
    if (segment.type != PT_NOTE) continue;
    if (const auto notes = read_bytes(segment.offset, segment.file_bytes, kMaxNoteBytes))
      if (std::string id = build_id_in(*notes); !id.empty()) return id;
  }
  return {};
}

DebugLink ElfFile::debug_link() const
{
  const ElfSection* section = this->section(".gnu_debuglink");
  const auto bytes = section == nullptr ? std::nullopt : contents(*section, kMaxDebugLinkBytes);
  if (!bytes) return {};
  Cursor cursor(*bytes);
  DebugLink link{std::string(cursor.text()), 0};
  cursor.skip((4 - cursor.at() % 4) % 4);
  link.crc32 = cursor.take<std::uint32_t>();
  // It names a file beside the program, nothing else.
  if (!cursor.ok() || link.name.find('/') != std::string::npos || link.name == "." || link.name == "..") return {};
  return link;
}

}  // namespace laggard::identify
