// SPDX-License-Identifier: MIT
#include "identify/elf_image.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace laggard::identify {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
constexpr std::uint64_t kRelative = R_X86_64_RELATIVE;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
constexpr std::uint64_t kRelative = R_AARCH64_RELATIVE;
#else
#error "What this machine's relocations are called is not known here: add it"
#endif

constexpr std::uint64_t kNameCostBytes = 48;  // of a name beside its text: a string and an address
constexpr std::size_t kMaxSegments = 256;     // GNU ld makes about four; each symbol's address is looked for in them

std::string machine_name(const Elf64_Ehdr& header)
{
  const bool is_big_endian = header.e_ident[EI_DATA] == ELFDATA2MSB;
  const Elf64_Half machine = is_big_endian ? __builtin_bswap16(header.e_machine) : header.e_machine;
  const std::string name = machine == EM_X86_64    ? "x86-64"
                           : machine == EM_AARCH64 ? "AArch64"
                           : machine == EM_386     ? "i386"
                                                   : fmt::format("ELF machine {}", machine);
  const bool is_short = header.e_ident[EI_CLASS] != ELFCLASS64 && machine != EM_386;
  return name + (is_short ? " with 32-bit addresses" : is_big_endian ? ", big-endian" : "");
}

}  // namespace

Result<ElfImage> ElfImage::open(Fd file)
{
  ElfImage image;
  image.file_ = std::move(file);
  struct stat status {};
  if (!image.file_ || ::fstat(image.file_.get(), &status) != 0) return errno_failure("cannot be opened");
  if (!S_ISREG(status.st_mode)) return failure("is not a regular file");
  image.file_bytes_ = static_cast<std::uint64_t>(status.st_size);

  const std::string start = image.read(0, std::min<std::uint64_t>(sizeof(Elf64_Ehdr), image.file_bytes_));
  if (!start.starts_with(ELFMAG)) return failure("is no ELF file");
  const auto header = value_at<Elf64_Ehdr>(start, 0);
  if (!header) return failure("has damaged ELF headers");
  Elf64_Ehdr native = *header;
  native.e_machine = kMachine;
  native.e_ident[EI_CLASS] = ELFCLASS64;
  native.e_ident[EI_DATA] = ELFDATA2LSB;
  if (std::memcmp(&native, &*header, sizeof native) != 0)
    return failure(fmt::format("is built for {}, and this host is {}", machine_name(*header), machine_name(native)));

  if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > kMaxSegments)
    return failure("has damaged ELF headers");
  const std::string segments = image.read(header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
  for (std::size_t at = 0; const auto segment = value_at<Elf64_Phdr>(segments, at); at += sizeof *segment)
    if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) image.code_.push_back(*segment);
  if (image.code_.empty()) return failure("has damaged ELF headers, or no code");

  // More than 65279 sections are counted elsewhere: object files have them, what is linked does not.
  if (header->e_shentsize != sizeof(Elf64_Shdr)) return image;
  const std::string sections = image.read(header->e_shoff, header->e_shnum * sizeof(Elf64_Shdr));
  for (std::size_t at = 0; const auto section = value_at<Elf64_Shdr>(sections, at); at += sizeof *section)
    image.sections_.push_back({*section, {}, {}});
  if (header->e_shstrndx >= image.sections_.size()) return image;
  const ByteView names = image.contents(image.sections_[header->e_shstrndx]);
  for (ElfSection& section : image.sections_) section.name = image.name_at(names, section.header.sh_name);
  return image;
}

bool ElfImage::charge(std::uint64_t bytes)
{
  is_exhausted_ = is_exhausted_ || bytes > budget_;
  if (!is_exhausted_) budget_ -= bytes;
  return !is_exhausted_;
}

std::string ElfImage::read(std::uint64_t offset, std::uint64_t bytes)
{
  if (offset > file_bytes_ || bytes > file_bytes_ - offset || !charge(bytes)) return {};
  std::string buffer(bytes, '\0');
  std::uint64_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::pread(file_.get(), buffer.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return {};
    done += static_cast<std::uint64_t>(n);
  }
  return buffer;
}

ElfSection* ElfImage::section(std::string_view name)
{
  const auto found = std::ranges::find(sections_, name, &ElfSection::name);
  return found == sections_.end() ? nullptr : &*found;
}

ByteView ElfImage::contents(ElfSection& section)
{
  const bool is_plain = section.header.sh_type != SHT_NOBITS && (section.header.sh_flags & SHF_COMPRESSED) == 0;
  if (!section.contents)
    section.contents = is_plain ? read(section.header.sh_offset, section.header.sh_size) : std::string();
  return *section.contents;
}

std::optional<std::uint64_t> ElfImage::pointer_at(ElfSection& section, std::uint64_t offset)
{
  const auto linked = value_at<std::uint64_t>(contents(section), offset);
  if (!linked || *linked != 0) return linked;
  const std::uint64_t address = section.header.sh_addr + offset;
  for (ElfSection& relocations : sections_) {
    if (relocations.header.sh_type != SHT_RELA || (relocations.header.sh_flags & SHF_ALLOC) == 0) continue;
    const ByteView bytes = contents(relocations);
    for (std::size_t at = 0; const auto relocation = value_at<Elf64_Rela>(bytes, at); at += sizeof *relocation)
      if (relocation->r_offset == address && ELF64_R_TYPE(relocation->r_info) == kRelative)
        return static_cast<std::uint64_t>(relocation->r_addend);
  }
  return std::nullopt;
}

std::string_view ElfImage::name_at(ByteView names, std::uint64_t offset)
{
  const ByteView rest = from(names, offset).substr(0, budget_);
  const std::size_t length = rest.find('\0');
  if (!charge(std::min(length, rest.size()) + kNameCostBytes) || length == ByteView::npos) return {};
  return rest.substr(0, length);
}

std::optional<std::uint64_t> ElfImage::file_offset_of(std::uint64_t vaddr) const
{
  for (const Elf64_Phdr& segment : code_) {
    if (vaddr < segment.p_vaddr || vaddr - segment.p_vaddr >= segment.p_filesz) continue;
    const std::uint64_t inside = vaddr - segment.p_vaddr;
    if (segment.p_offset < file_bytes_ && inside < file_bytes_ - segment.p_offset) return segment.p_offset + inside;
  }
  return std::nullopt;
}

}  // namespace laggard::identify
