// SPDX-License-Identifier: MIT
#include "identify/line_table.h"

#include <algorithm>
#include <limits>

namespace laggard::identify {
namespace {

constexpr std::uint64_t kMaxLineBytes = 256ULL << 20;  // Chromium's, the largest at hand, has some 150 MB
constexpr std::size_t kMaxSequences = 8U << 20;        // one per function; Chromium has a million functions
constexpr std::size_t kMaxDirectories = 64U << 10;     // of one compilation; a large one includes from some hundred
constexpr int kMaxOverlaps = 16;                       // sequences of one address; a linker makes one

// clang-format off
// DWARF 5, 7.5.6 and 7.22.
enum Form : std::uint64_t {
  kBlock2 = 0x03, kBlock4 = 0x04, kData2 = 0x05, kData4 = 0x06, kData8 = 0x07, kString = 0x08, kBlock = 0x09,
  kBlock1 = 0x0a, kData1 = 0x0b, kUdata = 0x0f, kData16 = 0x1e, kLineStrp = 0x1f
};
enum Content : std::uint64_t { kPath = 1, kDirectoryIndex = 2 };
enum StandardOpcode : std::uint8_t {
  kExtended = 0, kCopy = 1, kAdvancePc = 2, kAdvanceLine = 3, kSetFile = 4, kConstAddPc = 8, kFixedAdvancePc = 9
};
enum ExtendedOpcode : std::uint8_t { kEndSequence = 1, kSetAddress = 2 };
// clang-format on

struct Name {
  std::string_view path;
  std::uint64_t directory = 0;
};

}  // namespace

struct LineTable::Unit {
  bool is_64_bit_dwarf = false;
  std::uint16_t version = 0;
  std::size_t end = 0, program_at = 0, names_at = 0;
  std::uint8_t min_instruction_bytes = 1, line_range = 1, opcode_base = 1;
  std::int8_t line_base = 0;
  std::vector<std::uint8_t> opcode_operands;  // of opcode i + 1
};

std::optional<LineTable::Unit> LineTable::read_unit(std::size_t at) const
{
  Unit unit;
  Cursor cursor(lines_, at);
  std::uint64_t length = cursor.take<std::uint32_t>();
  if (length == 0xffffffff) {
    unit.is_64_bit_dwarf = true;
    length = cursor.take<std::uint64_t>();
  }
  if (!cursor.ok() || length > lines_.size() - cursor.at()) return std::nullopt;
  unit.end = cursor.at() + static_cast<std::size_t>(length);
  unit.version = cursor.take<std::uint16_t>();
  if (unit.version >= 5) cursor.skip(2);  // address and segment selector sizes
  const std::uint64_t header_length = cursor.take_unsigned(unit.is_64_bit_dwarf ? 8 : 4);
  if (!cursor.ok() || header_length > lines_.size() - cursor.at()) return unit;
  unit.program_at = cursor.at() + static_cast<std::size_t>(header_length);
  unit.min_instruction_bytes = cursor.take<std::uint8_t>();
  if (unit.version >= 4) cursor.skip(1);  // operations per instruction: more than one only on VLIW machines
  cursor.skip(1);                         // default_is_stmt
  unit.line_base = cursor.take<std::int8_t>();
  unit.line_range = cursor.take<std::uint8_t>();
  unit.opcode_base = cursor.take<std::uint8_t>();
  for (int i = 1; i < unit.opcode_base; ++i) unit.opcode_operands.push_back(cursor.take<std::uint8_t>());
  unit.names_at = cursor.at();
  // A unit that cannot be read is passed over, not run: program_at 0 says so.
  if (!cursor.ok() || unit.version < 2 || unit.version > 5 || unit.line_range == 0 || unit.opcode_base == 0 ||
      unit.program_at > unit.end || unit.names_at > unit.program_at)
    unit.program_at = 0;
  return unit;
}

// on_row(row, is_end, offset behind the instruction) -> bool: go on.
template <class OnRow>
void LineTable::run(const Unit& unit, std::size_t from, std::size_t to, OnRow on_row) const
{
  Row row;
  Cursor cursor(std::span{lines_}.first(to), from);
  const auto advance = [&](std::uint64_t operations) { row.vaddr += operations * unit.min_instruction_bytes; };
  const auto add_lines = [&](std::int64_t lines) {
    row.line = static_cast<std::int64_t>(static_cast<std::uint64_t>(row.line) + static_cast<std::uint64_t>(lines));
  };
  while (cursor.ok() && !cursor.at_end()) {
    const auto opcode = cursor.take<std::uint8_t>();
    if (opcode >= unit.opcode_base) {
      const int adjusted = opcode - unit.opcode_base;
      advance(static_cast<std::uint64_t>(adjusted / unit.line_range));
      add_lines(unit.line_base + adjusted % unit.line_range);
      if (!on_row(row, false, cursor.at())) return;
    } else if (opcode == kExtended) {
      const std::uint64_t length = cursor.uleb();
      const std::size_t start = cursor.at();
      const auto extended = length > 0 ? cursor.take<std::uint8_t>() : std::uint8_t{0};
      if (extended == kSetAddress && cursor.ok())
        row.vaddr = cursor.take_unsigned(static_cast<std::size_t>(std::min<std::uint64_t>(length - 1, 16)));
      else if (length > 0)
        cursor.skip(length - 1);
      if (!cursor.ok() || cursor.at() != start + length) return;
      if (extended == kEndSequence) {
        if (!on_row(row, true, cursor.at())) return;
        row = Row{};
      }
    } else if (opcode == kCopy) {
      if (!on_row(row, false, cursor.at())) return;
    } else if (opcode == kAdvancePc) {
      advance(cursor.uleb());
    } else if (opcode == kAdvanceLine) {
      add_lines(cursor.sleb());
    } else if (opcode == kSetFile) {
      row.file = cursor.uleb();
    } else if (opcode == kConstAddPc) {
      advance(static_cast<std::uint64_t>((255 - unit.opcode_base) / unit.line_range));
    } else if (opcode == kFixedAdvancePc) {
      row.vaddr += cursor.take<std::uint16_t>();
    } else {
      for (int operands = unit.opcode_operands[opcode - 1U]; operands > 0; --operands) cursor.uleb();
    }
  }
}

std::optional<LineTable> LineTable::read(const ElfFile& file)
{
  const auto load = [&](const char* name) {
    const ElfSection* section = file.section(name);
    auto bytes = section == nullptr ? std::nullopt : file.contents(*section, kMaxLineBytes);
    return bytes ? std::move(*bytes) : Bytes{};
  };
  LineTable table;
  table.lines_ = load(".debug_line");
  if (table.lines_.empty()) return std::nullopt;
  table.line_strings_ = load(".debug_line_str");
  for (std::size_t at = 0; at < table.lines_.size();) {
    const std::optional<Unit> unit = table.read_unit(at);
    if (!unit || unit->end <= at) break;
    if (unit->program_at != 0) {
      Sequence sequence{UINT64_MAX, 0, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(unit->program_at), 0};
      table.run(*unit, unit->program_at, unit->end, [&](const Row& row, bool is_end, std::size_t behind) {
        sequence.low = std::min(sequence.low, row.vaddr);
        if (is_end) {
          sequence.high = row.vaddr;
          sequence.program_end = static_cast<std::uint32_t>(behind);
          // Code that the linker left out is at 0.
          if (sequence.low != 0 && sequence.low < sequence.high && table.sequences_.size() < kMaxSequences)
            table.sequences_.push_back(sequence);
          sequence.low = UINT64_MAX;
          sequence.program_at = static_cast<std::uint32_t>(behind);
        }
        return true;
      });
    }
    at = unit->end;
  }
  std::sort(table.sequences_.begin(), table.sequences_.end(),
            [](const Sequence& a, const Sequence& b) { return a.low < b.low; });
  return table;
}

std::optional<LineTable::Match> LineTable::find(std::uint64_t vaddr) const
{
  auto sequence = std::upper_bound(sequences_.begin(), sequences_.end(), vaddr,
                                   [](std::uint64_t address, const Sequence& s) { return address < s.low; });
  for (int looked = 0; sequence != sequences_.begin() && looked < kMaxOverlaps; ++looked) {
    --sequence;
    if (vaddr >= sequence->high) continue;
    const std::optional<Unit> unit = read_unit(sequence->unit_at);
    std::optional<Row> last;
    bool found = false;
    run(*unit, sequence->program_at, sequence->program_end, [&](const Row& row, bool, std::size_t) {
      found = last && last->vaddr <= vaddr && vaddr < row.vaddr;
      if (!found) last = row;
      return !found;
    });
    // Line 0: the compiler's own code.
    if (found && last->line > 0 && last->line <= std::numeric_limits<int>::max())
      if (std::string name = file_name(*unit, last->file); !name.empty())
        return Match{std::move(name), static_cast<int>(last->line)};
  }
  return std::nullopt;
}

std::uint64_t LineTable::held_bytes() const
{
  return lines_.size() + line_strings_.size() + sequences_.size() * sizeof(Sequence);
}

std::string LineTable::file_name(const Unit& unit, std::uint64_t file) const
{
  Cursor cursor(std::span{lines_}.first(unit.program_at), unit.names_at);
  std::vector<std::string_view> directories;
  Name found;
  bool seen = false;
  if (unit.version >= 5) {
    const std::size_t offset_bytes = unit.is_64_bit_dwarf ? 8 : 4;
    // Two tables of the same form; calls entry(index, name).
    const auto read_table = [&](auto entry) {
      std::vector<std::pair<std::uint64_t, std::uint64_t>> format(cursor.take<std::uint8_t>());
      for (auto& [content, form] : format) {
        content = cursor.uleb();
        form = cursor.uleb();
      }
      const std::uint64_t count = cursor.uleb();
      if (format.empty()) return;
      for (std::uint64_t i = 0; i < count && cursor.ok() && !cursor.at_end(); ++i) {
        Name name;
        for (const auto& [content, form] : format) {
          std::string_view text;
          std::uint64_t number = 0;
          // clang-format off
          switch (form) {
            case kString: text = cursor.text(); break;
            case kLineStrp: text = text_at(line_strings_, cursor.take_unsigned(offset_bytes)); break;
            case kUdata: number = cursor.uleb(); break;
            case kData1: number = cursor.take<std::uint8_t>(); break;
            case kData2: number = cursor.take<std::uint16_t>(); break;
            case kData4: number = cursor.take<std::uint32_t>(); break;
            case kData8: number = cursor.take<std::uint64_t>(); break;
            case kData16: cursor.skip(16); break;
            case kBlock: cursor.skip(cursor.uleb()); break;
            case kBlock1: cursor.skip(cursor.take<std::uint8_t>()); break;
            case kBlock2: cursor.skip(cursor.take<std::uint16_t>()); break;
            case kBlock4: cursor.skip(cursor.take<std::uint32_t>()); break;
            default: cursor.skip(UINT64_MAX); break;  // .debug_str's forms: neither gcc nor clang uses them here
          }
          // clang-format on
          if (content == kPath)
            name.path = text;
          else if (content == kDirectoryIndex)
            name.directory = number;
        }
        entry(i, name);
      }
    };
    read_table([&](std::uint64_t, const Name& name) {
      if (directories.size() < kMaxDirectories) directories.push_back(name.path);
    });
    read_table([&](std::uint64_t index, const Name& name) {
      if (index == file) {
        found = name;
        seen = true;
      }
    });
  } else {
    directories.emplace_back();  // 0: the compilation's, which is in .debug_info
    while (cursor.ok() && directories.size() < kMaxDirectories) {
      const std::string_view directory = cursor.text();
      if (directory.empty()) break;
      directories.push_back(directory);
    }
    for (std::uint64_t i = 1; cursor.ok() && !seen; ++i) {
      Name name{cursor.text(), 0};
      if (name.path.empty()) break;
      name.directory = cursor.uleb();
      cursor.uleb();
      cursor.uleb();
      if (i == file) {
        found = name;
        seen = true;
      }
    }
  }
  if (!seen || found.path.empty()) return {};
  std::string path(found.path);
  const auto under = [&](std::uint64_t index) {
    if (path.front() != '/' && index < directories.size() && !directories[static_cast<std::size_t>(index)].empty())
      path = std::string(directories[static_cast<std::size_t>(index)]) + '/' + path;
  };
  under(found.directory);
  if (unit.version >= 5 && found.directory != 0) under(0);
  return path;
}

}  // namespace laggard::identify
