// SPDX-License-Identifier: MIT
#include "identify/symbol_table.h"

#include <elf.h>

#include <algorithm>

namespace laggard::identify {
namespace {

constexpr std::uint64_t kMaxSymbolBytes = 128ULL << 20;  // 5.6 million symbols; Chromium with symbols has 2 million
constexpr std::uint64_t kMaxStringBytes = 256ULL << 20;
constexpr std::uint64_t kMaxDynamicBytes = 64ULL << 10;

// A function without a size is hand-written assembly, which reaches to the next symbol, but no further than this: the
// longest in glibc's x86-64 string functions are some 3 KiB.
constexpr std::uint64_t kMaxUnsizedBytes = 4096;
// Functions overlap only where one contains local labels; a file made to overlap all of them must not cost a scan each.
constexpr int kMaxOverlaps = 64;

std::uint32_t rank_of(std::string_view name, unsigned char binding, std::uint64_t size)
{
  // "read" rather than "__read" or "__libc_read", and a global rather than a local alias.
  const auto underscores = static_cast<std::uint32_t>(std::min<std::size_t>(name.find_first_not_of('_'), 7));
  return (size == 0 ? 100U : 0U) + underscores * 4 + (binding == STB_LOCAL ? 2U : 0U) +
         (name.starts_with("__libc") ? 1U : 0U);
}

template <class Sym>
bool is_function(const Sym& symbol)
{
  const unsigned type = symbol.st_info & 0xf;
  return symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS && symbol.st_name != 0 &&
         (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE);
}

}  // namespace

std::optional<SymbolTable> SymbolTable::build(const Bytes& symbols, Bytes strings, const ElfFile& program,
                                              bool is_64_bit, bool all_symbols)
{
  SymbolTable table;
  table.strings_ = std::move(strings);
  const auto add = [&](const auto& symbol) {
    // Without the local symbols nothing says where an unsized function ends.
    if (!is_function(symbol) || (symbol.st_size == 0 && !all_symbols) || !program.is_code(symbol.st_value)) return;
    const std::string_view name = text_at(table.strings_, symbol.st_name);
    // "$x" marks code for disassemblers, ".L1" is a label.
    if (name.empty() || name.front() == '$' || name.starts_with(".L")) return;
    const std::uint64_t size = std::min<std::uint64_t>(symbol.st_size, UINT64_MAX - symbol.st_value);
    table.entries_.push_back({symbol.st_value, symbol.st_value + size, 0, symbol.st_name,
                              rank_of(name, static_cast<unsigned char>(symbol.st_info >> 4), size)});
  };
  const auto add_all = [&](auto symbol) {
    for (std::size_t at = 0; symbols.size() - at >= sizeof symbol; at += sizeof symbol) {
      std::memcpy(&symbol, symbols.data() + at, sizeof symbol);
      add(symbol);
    }
  };
  if (is_64_bit)
    add_all(Elf64_Sym{});
  else
    add_all(Elf32_Sym{});

  auto& entries = table.entries_;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.vaddr != b.vaddr ? a.vaddr < b.vaddr : a.rank != b.rank ? a.rank < b.rank : a.name < b.name;
  });
  entries.erase(
      std::unique(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.vaddr == b.vaddr; }),
      entries.end());
  std::uint64_t covered_end = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Entry& entry = entries[i];
    if (entry.end == entry.vaddr) {
      const std::uint64_t next = i + 1 < entries.size() ? entries[i + 1].vaddr : UINT64_MAX;
      entry.end += std::min(next - entry.vaddr, kMaxUnsizedBytes);
    }
    covered_end = entry.covered_end = std::max(covered_end, entry.end);
  }
  return table;
}

std::optional<SymbolTable> SymbolTable::full(const ElfFile& file, const ElfFile& program)
{
  const ElfSection* symbols = file.section_of_type(SHT_SYMTAB);
  if (symbols == nullptr || symbols->link >= file.sections().size()) return std::nullopt;
  const auto bytes = file.contents(*symbols, kMaxSymbolBytes);
  auto strings = file.contents(file.sections()[symbols->link], kMaxStringBytes);
  if (!bytes || !strings) return std::nullopt;
  return build(*bytes, std::move(*strings), program, file.is_64_bit(), true);
}

std::optional<SymbolTable> SymbolTable::exported(const ElfFile& program, std::uint64_t load_bias)
{
  const ElfSection* symbols = program.section_of_type(SHT_DYNSYM);
  if (symbols != nullptr && symbols->link < program.sections().size()) {
    const auto bytes = program.contents(*symbols, kMaxSymbolBytes);
    auto strings = program.contents(program.sections()[symbols->link], kMaxStringBytes);
    if (bytes && strings) return build(*bytes, std::move(*strings), program, program.is_64_bit(), false);
  }
  return from_dynamic_segment(program, load_bias);
}

std::optional<SymbolTable> SymbolTable::from_dynamic_segment(const ElfFile& program, std::uint64_t load_bias)
{
  const ElfSegment* segment = program.segment(PT_DYNAMIC);
  if (segment == nullptr || segment->file_bytes > kMaxDynamicBytes) return std::nullopt;
  const auto dynamic = program.memory(segment->vaddr, segment->file_bytes);
  if (!dynamic) return std::nullopt;
  std::uint64_t symbols_at = 0, strings_at = 0, strings_bytes = 0;
  Cursor cursor(*dynamic);
  const std::size_t word = program.is_64_bit() ? 8 : 4;
  while (cursor.ok() && !cursor.at_end()) {
    const std::uint64_t tag = cursor.take_unsigned(word);
    const std::uint64_t value = cursor.take_unsigned(word);
    // glibc turns these into addresses of the process when it loads the file.
    const auto address = [&] {
      return program.mapped_bytes_after(value) == 0 && value >= load_bias ? value - load_bias : value;
    };
    if (tag == DT_NULL) break;
    if (tag == DT_SYMTAB)
      symbols_at = address();
    else if (tag == DT_STRTAB)
      strings_at = address();
    else if (tag == DT_STRSZ)
      strings_bytes = value;
  }
  // No entry says how many symbols there are. Every linker puts their strings right behind them; where another table
  // follows instead, its bytes are no functions within code with names within the strings, or very few.
  const std::uint64_t symbol_bytes = strings_at > symbols_at ? strings_at - symbols_at : 0;
  if (symbol_bytes == 0 || symbol_bytes > kMaxSymbolBytes || strings_bytes == 0 || strings_bytes > kMaxStringBytes)
    return std::nullopt;
  const auto symbols = program.memory(symbols_at, symbol_bytes);
  auto strings = program.memory(strings_at, strings_bytes);
  if (!symbols || !strings) return std::nullopt;
  return build(*symbols, std::move(*strings), program, program.is_64_bit(), false);
}

std::optional<SymbolTable::Match> SymbolTable::find(std::uint64_t vaddr) const
{
  auto entry = std::upper_bound(entries_.begin(), entries_.end(), vaddr,
                                [](std::uint64_t address, const Entry& e) { return address < e.vaddr; });
  for (int looked = 0; entry != entries_.begin() && looked < kMaxOverlaps; ++looked) {
    --entry;
    if (vaddr < entry->end) {
      std::string_view name = text_at(strings_, entry->name);
      // ".symtab" has "memcpy@@GLIBC_2.14".
      return Match{name.substr(0, name.find('@', 1)), vaddr - entry->vaddr};
    }
    if (vaddr >= entry->covered_end) break;
  }
  return std::nullopt;
}

}  // namespace laggard::identify
