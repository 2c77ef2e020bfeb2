// SPDX-License-Identifier: MIT
#include "identify/unwind_tables.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace laggard::identify {
namespace {

#if defined(__x86_64__)
constexpr std::uint16_t kOwnMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::uint16_t kOwnMachine = EM_AARCH64;
#endif

constexpr std::uint64_t kMaxTableBytes = 64ULL << 20;     // Chromium's .eh_frame has 15 MB
constexpr std::uint64_t kMaxUnsortedBytes = 16ULL << 20;  // libdw keeps a note of some 100 bytes on every entry then
constexpr std::uint64_t kMaxEntryBytes = 256ULL << 10;    // of one function; it is executed for every frame
constexpr std::uint64_t kMaxRegister = 255;               // DWARF numbers: x86-64 ends at 130, aarch64 at 127
// remember_state copies all register rules. Nested twice or so by compilers; of one function, a 32 KB one in libnvrtc
// has some thousand in a row.
constexpr int kMaxRememberedAtOnce = 128;
constexpr int kMaxRemembered = 8192;

// Pointer encodings (LSB Core 10.5.1).
enum PointerEncoding : std::uint8_t {
  kPcrelSdata4 = 0x1b,
  kDatarelSdata4 = 0x3b,
  kUdata4 = 0x03,
  kIndirect = 0x80,
  kOmit = 0xff
};

// clang-format off
std::optional<std::size_t> encoded_bytes(std::uint8_t encoding)
{
  if ((encoding & 0x70) == 0x50)  // aligned
    return std::nullopt;
  switch (encoding & 0x0f) {
    case 0x00: case 0x04: case 0x0c: return 8;
    case 0x02: case 0x0a: return 2;
    case 0x03: case 0x0b: return 4;
    default: return std::nullopt;  // LEB128 and what does not exist: no compiler writes them here
  }
}
// clang-format on

// clang-format off
// DWARF 5, 6.4.2 and 7.24, and the extensions of GNU and ARM.
bool check_instructions(std::span<const std::byte> instructions, std::size_t pointer_bytes)
{
  Cursor cursor(instructions);
  int remembered = 0, at_once = 0;
  bool small_registers = true;
  const auto take_register = [&] { small_registers = cursor.uleb() <= kMaxRegister && small_registers; };
  while (cursor.ok() && !cursor.at_end() && small_registers) {
    const auto opcode = cursor.take<std::uint8_t>();
    switch (opcode & 0xc0) {
      case 0x40: case 0xc0: continue;       // advance_loc, restore
      case 0x80: cursor.uleb(); continue;   // offset
      default: break;
    }
    switch (opcode) {
      case 0x00: break;                                              // nop
      case 0x01: cursor.skip(pointer_bytes); break;                  // set_loc
      case 0x02: cursor.skip(1); break;                              // advance_loc1, 2, 4
      case 0x03: cursor.skip(2); break;
      case 0x04: cursor.skip(4); break;
      case 0x05: case 0x11: case 0x0c: case 0x12: case 0x14: case 0x15: case 0x2f:  // register and offset
        take_register();
        cursor.uleb();
        break;
      case 0x06: case 0x07: case 0x08: case 0x0d: take_register(); break;  // restore, undefined, same_value, def_cfa_r.
      case 0x09: take_register(); take_register(); break;                  // register
      case 0x0a:                                                           // remember_state
        if (++remembered > kMaxRemembered || ++at_once > kMaxRememberedAtOnce)
          return false;
        break;
      case 0x0b:                                                     // restore_state
        if (--at_once < 0)
          return false;
        break;
      case 0x2d: break;                                              // AArch64 negate_ra_state
      case 0x0e: case 0x13: case 0x2e: cursor.uleb(); break;         // def_cfa_offset(_sf), GNU_args_size
      case 0x10: case 0x16: take_register(); [[fallthrough]];        // expression, val_expression
      case 0x0f: cursor.skip(cursor.uleb()); break;                  // def_cfa_expression
      default: return false;
    }
  }
  return cursor.ok() && small_registers;
}
// clang-format on

struct Cie {
  std::size_t pointer_bytes = 8;
  bool has_augmentation_data = false;
};

std::optional<Cie> check_cie(std::span<const std::byte> body)
{
  Cursor cursor(body);
  Cie cie;
  const auto version = cursor.take<std::uint8_t>();
  const std::string_view augmentation = cursor.text();
  if (version != 1 && version != 3) return std::nullopt;
  cursor.uleb();  // alignment factors
  cursor.sleb();
  const std::uint64_t return_address = version == 1 ? cursor.take<std::uint8_t>() : cursor.uleb();
  if (!cursor.ok() || return_address > kMaxRegister) return std::nullopt;
  if (!augmentation.empty()) {
    if (augmentation.front() != 'z') return std::nullopt;
    cie.has_augmentation_data = true;
    const std::uint64_t data_bytes = cursor.uleb();
    const std::size_t data_at = cursor.at();
    for (const char letter : augmentation.substr(1)) {
      if (letter == 'R' || letter == 'P') {
        const auto encoding = cursor.take<std::uint8_t>();
        const auto bytes = encoded_bytes(encoding);
        if (!bytes || (letter == 'R' && (encoding & kIndirect) != 0)) return std::nullopt;
        if (letter == 'P')
          cursor.skip(*bytes);
        else
          cie.pointer_bytes = *bytes;
      } else if (letter == 'L') {
        cursor.skip(1);
      } else if (letter != 'S' && letter != 'B') {  // signal frame, AArch64 key B
        return std::nullopt;
      }
    }
    if (!cursor.ok() || cursor.at() - data_at > data_bytes) return std::nullopt;
    cursor.skip(data_bytes - (cursor.at() - data_at));
  }
  if (!cursor.ok() || !check_instructions(body.subspan(cursor.at()), cie.pointer_bytes)) return std::nullopt;
  return cie;
}

bool check_fde(std::span<const std::byte> body, const Cie& cie)
{
  Cursor cursor(body);
  cursor.skip(2 * cie.pointer_bytes);  // first address, length
  if (cie.has_augmentation_data) cursor.skip(cursor.uleb());
  return cursor.ok() && check_instructions(body.subspan(cursor.at()), cie.pointer_bytes);
}

// The offsets of all FDEs, ascending; nothing where an entry is malformed.
std::optional<std::vector<std::uint32_t>> check_eh_frame(std::span<const std::byte> table)
{
  std::vector<std::uint32_t> fdes;
  std::map<std::size_t, Cie> cies;
  Cursor cursor(table);
  while (!cursor.at_end()) {
    const std::size_t entry_at = cursor.at();
    const auto length = cursor.take<std::uint32_t>();
    if (!cursor.ok()) return std::nullopt;
    if (length == 0)  // the end; some linkers have one in the middle
      continue;
    const std::size_t id_at = cursor.at();
    const auto id = cursor.take<std::uint32_t>();
    if (!cursor.ok() || length < 4 || length > kMaxEntryBytes) return std::nullopt;
    cursor.skip(length - 4);
    if (!cursor.ok()) return std::nullopt;
    const auto body = table.subspan(id_at + 4, length - 4);
    if (id == 0) {
      const auto cie = check_cie(body);
      if (!cie) return std::nullopt;
      cies.emplace(entry_at, *cie);
    } else {
      const auto cie = id <= id_at ? cies.find(id_at - id) : cies.end();
      if (cie == cies.end() || !check_fde(body, cie->second)) return std::nullopt;
      fdes.push_back(static_cast<std::uint32_t>(entry_at));
    }
  }
  return fdes;
}

// The form that every linker writes, pointing at entries that were checked.
bool check_search_table(std::span<const std::byte> table, std::uint64_t vaddr, std::uint64_t eh_frame_vaddr,
                        const std::vector<std::uint32_t>& fdes)
{
  Cursor cursor(table);
  const auto signed_word = [&] { return static_cast<std::uint64_t>(std::int64_t{cursor.take<std::int32_t>()}); };
  if (cursor.take<std::uint8_t>() != 1 || cursor.take<std::uint8_t>() != kPcrelSdata4 ||
      cursor.take<std::uint8_t>() != kUdata4 || cursor.take<std::uint8_t>() != kDatarelSdata4 ||
      vaddr + 4 + signed_word() != eh_frame_vaddr)
    return false;
  const auto count = cursor.take<std::uint32_t>();
  if (!cursor.ok() || count == 0 || count > (table.size() - cursor.at()) / 8) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    cursor.skip(4);
    if (!std::binary_search(fdes.begin(), fdes.end(), vaddr + signed_word() - eh_frame_vaddr)) return false;
  }
  return true;
}

struct Found {
  std::optional<Bytes> eh_frame, search_table;
  std::uint64_t eh_frame_vaddr = 0, search_table_vaddr = 0;
};

Found find_tables(const ElfFile& program)
{
  Found found;
  const ElfSection* frame = program.section(".eh_frame");
  const ElfSection* header = program.section(".eh_frame_hdr");
  if (frame != nullptr) {
    found.eh_frame = program.contents(*frame, kMaxTableBytes);
    found.eh_frame_vaddr = frame->vaddr;
    if (header != nullptr) {
      found.search_table = program.contents(*header, kMaxTableBytes);
      found.search_table_vaddr = header->vaddr;
    }
  } else if (const ElfSegment* segment = program.segment(PT_GNU_EH_FRAME)) {
    // No section headers: as the C++ runtime finds them.
    if (segment->file_bytes > kMaxTableBytes) return found;
    found.search_table = program.memory(segment->vaddr, segment->file_bytes);
    found.search_table_vaddr = segment->vaddr;
    if (!found.search_table) return found;
    Cursor cursor(*found.search_table, 1);
    if (cursor.take<std::uint8_t>() != kPcrelSdata4) return found;
    cursor.skip(2);
    found.eh_frame_vaddr = segment->vaddr + 4 + static_cast<std::uint64_t>(std::int64_t{cursor.take<std::int32_t>()});
    const std::uint64_t bytes = program.mapped_bytes_after(found.eh_frame_vaddr);
    if (bytes != 0 && bytes <= kMaxTableBytes) found.eh_frame = program.memory(found.eh_frame_vaddr, bytes);
    // Up to the terminator; behind it is something else.
    if (found.eh_frame) {
      Cursor walk(*found.eh_frame);
      for (std::uint32_t length = 1; length != 0 && walk.ok();) {
        length = walk.take<std::uint32_t>();
        walk.skip(length);
      }
      found.eh_frame->resize(walk.at());
    }
  }
  return found;
}

}  // namespace

Result<std::optional<UnwindTables>> UnwindTables::read(const ElfFile& program)
{
  if (!program.is_64_bit() || program.machine() != kOwnMachine) return std::nullopt;
  Found found = find_tables(program);
  if (!found.eh_frame) return std::nullopt;
  const auto fdes = check_eh_frame(*found.eh_frame);
  if (!fdes) return failure("its unwind tables are damaged");
  UnwindTables tables;
  tables.eh_frame = std::move(*found.eh_frame);
  tables.eh_frame_vaddr = found.eh_frame_vaddr;
  if (found.search_table &&
      check_search_table(*found.search_table, found.search_table_vaddr, found.eh_frame_vaddr, *fdes)) {
    tables.search_table = std::move(*found.search_table);
    tables.search_table_vaddr = found.search_table_vaddr;
  } else if (tables.eh_frame.size() > kMaxUnsortedBytes) {
    return failure("its unwind tables are too large to go through");
  }
  return tables;
}

Bytes UnwindTables::image(std::uint64_t vaddr, std::uint64_t mapped_bytes) const
{
  static constexpr char kNames[] = "\0.shstrtab\0.eh_frame_hdr\0.eh_frame";
  enum NameAt : Elf64_Word { kShstrtab = 1, kEhFrameHdr = 11, kEhFrame = 25 };
  Bytes out(sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr));
  const auto append = [&](const void* data, std::size_t bytes) {
    out.resize((out.size() + 15) & ~std::size_t{15});
    const std::size_t at = out.size();
    out.resize(at + bytes);
    if (bytes > 0) std::memcpy(out.data() + at, data, bytes);
    return static_cast<Elf64_Off>(at);
  };
  const auto section = [&](NameAt name, Elf64_Word type, Elf64_Xword flags, std::uint64_t at, const void* data,
                           std::size_t bytes) {
    Elf64_Shdr header{};
    header.sh_name = name;
    header.sh_type = type;
    header.sh_flags = flags;
    header.sh_addr = at;
    header.sh_offset = append(data, bytes);
    header.sh_size = bytes;
    header.sh_addralign = 1;
    return header;
  };
  std::vector<Elf64_Shdr> sections(1);
  sections.push_back(section(kShstrtab, SHT_STRTAB, 0, 0, kNames, sizeof kNames));
  if (!search_table.empty())  // libdw wants it before .eh_frame
    sections.push_back(
        section(kEhFrameHdr, SHT_PROGBITS, SHF_ALLOC, search_table_vaddr, search_table.data(), search_table.size()));
  sections.push_back(section(kEhFrame, SHT_PROGBITS, SHF_ALLOC, eh_frame_vaddr, eh_frame.data(), eh_frame.size()));

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_DYN;
  header.e_machine = kOwnMachine;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof header;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = static_cast<Elf64_Half>(sections.size());
  header.e_shstrndx = 1;
  header.e_shoff = append(sections.data(), sections.size() * sizeof(Elf64_Shdr));

  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_flags = PF_R | PF_X;
  segment.p_vaddr = segment.p_paddr = vaddr;
  segment.p_memsz = mapped_bytes;
  segment.p_align = 1;  // libdwfl takes p_vaddr rounded to it as where the module starts
  std::memcpy(out.data(), &header, sizeof header);
  std::memcpy(out.data() + sizeof header, &segment, sizeof segment);
  return out;
}

}  // namespace laggard::identify
