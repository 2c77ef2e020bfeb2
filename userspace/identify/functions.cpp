// SPDX-License-Identifier: MIT
// Go's own files are named as of Go 1.19 unless another version is said.
#include "identify/functions.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "identify/demangle.h"
#include "identify/elf_image.h"

namespace laggard::identify {
namespace {

// What gcc and clang move out of a function's way: it is jumped to, not called.
bool is_cold_part(std::string_view name)
{
  const std::size_t at = name.rfind(".cold");
  return at != std::string_view::npos && (at + 5 == name.size() || name[at + 5] == '.');
}

// ---- Go ----

// cmd/link/internal/ld/data.go. The second: position-independent, until Go 1.26.
constexpr std::array<std::string_view, 2> kGoTables = {".gopclntab", ".data.rel.ro.gopclntab"};

// runtime/symtab.go: pcHeader. Its tables are at offsets from its start. 1.20 has another magic for what functions hold
// further on (debug/gosym/pclntab.go of 1.20: go120magic), 1.26 no text_start.
struct PcHeader {
  std::uint32_t magic;
  std::array<std::uint8_t, 2> zero;
  std::uint8_t instruction_bytes, pointer_bytes;
  std::uint64_t function_count, file_count, text_start, names, units, files, pc_tables, functions;
};
static_assert(sizeof(PcHeader) == 72 && offsetof(PcHeader, text_start) == 24 && offsetof(PcHeader, functions) == 64);
constexpr std::uint32_t kGo120 = 0xfffffff1, kGo118 = 0xfffffff0, kGo116 = 0xfffffffa, kGo12 = 0xfffffffb;

// runtime/symtab.go: functab. Both are offsets: of the code from the text's start, of Func from the first of these.
struct FunctionEntry {
  std::uint32_t code, function;
};
// runtime/runtime2.go: _func.
struct Func {
  std::uint32_t code, name;
};

struct GoTable {
  ElfSection* section = nullptr;
  std::uint64_t offset = 0;
  PcHeader header{};
};

std::optional<GoTable> go_table_at(ElfImage& image, ElfSection& section, std::uint64_t offset)
{
  const ByteView bytes = from(image.contents(section), offset);
  const auto header = value_at<PcHeader>(bytes, 0);
  if (!header || header->zero[0] != 0 || header->zero[1] != 0 || header->pointer_bytes != 8) return std::nullopt;
  const bool is_old = header->magic == kGo116 || header->magic == kGo12;
  const bool is_read = header->magic == kGo120 || header->magic == kGo118;
  const bool fits = header->names < bytes.size() && header->functions < bytes.size();
  if (!is_old && !(is_read && fits)) return std::nullopt;
  return GoTable{&section, offset, *header};
}

std::optional<GoTable> find_go_table(ElfImage& image)
{
  for (const std::string_view name : kGoTables)
    if (ElfSection* section = image.section(name)) return go_table_at(image, *section, 0);
  // GNU ld makes the second part of .data.rel.ro: a position-independent program, linked by it for cgo.
  ElfSection* section = image.section(".data.rel.ro");
  if (section == nullptr) return std::nullopt;
  const ByteView bytes = image.contents(*section);
  constexpr ByteView kBehindFirst("\xff\xff\xff\0\0", 5);
  for (std::size_t at = bytes.find(kBehindFirst); at != std::string_view::npos; at = bytes.find(kBehindFirst, at + 1))
    if (auto table = at == 0 ? std::nullopt : go_table_at(image, *section, at - 1)) return table;
  return std::nullopt;
}

// runtime.text: not where .text begins if C's start files are linked in front of it (0x100 bytes with GNU ld 2.40). A
// wrong one would put breakpoints into the middle of instructions, so nothing is guessed.
std::optional<std::uint64_t> go_text(ElfImage& image, const GoTable& table, std::uint32_t first_code)
{
  if (const auto text = image.pointer_at(*table.section, table.offset + offsetof(PcHeader, text_start))) return text;
  // Go 1.26: runtime/symtab.go: moduledata {pcHeader, 5 slices, ftab, findfunctab, minpc, maxpc, text, ...}.
  ElfSection* module = image.section(".go.module");
  if (module == nullptr) return std::nullopt;
  const auto header = image.pointer_at(*module, 0), first = image.pointer_at(*module, 20 * 8UL),
             text = image.pointer_at(*module, 22 * 8UL);
  const bool is_known_layout = header == table.section->header.sh_addr + table.offset && first && text;
  return is_known_layout && *first == *text + first_code ? text : std::nullopt;
}

// ---- both ----

class Reader {
 public:
  explicit Reader(ElfImage image) : image_(std::move(image)) {}

  std::vector<Function> functions;
  CallingConvention convention = CallingConvention::SystemV;

  Result<void> read()
  {
    const auto is_go_section = [&](std::string_view name) { return image_.section(name) != nullptr; };
    const bool is_go = is_go_section(".go.buildinfo") || std::ranges::any_of(kGoTables, is_go_section);
    if (is_go) convention = CallingConvention::Go;
    const auto go_table = is_go ? find_go_table(image_) : std::nullopt;
    if (go_table && (go_table->header.magic == kGo116 || go_table->header.magic == kGo12))
      return failure("is built by a Go before 1.18, whose function calls are not known here");
    for (ElfSection& section : image_.sections()) {
      const auto& header = section.header;
      if (header.sh_type == SHT_NOBITS && (header.sh_flags & SHF_EXECINSTR) != 0)
        return failure("holds debug information of another file, whose functions are to be named");
      if ((header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM) && header.sh_link < image_.sections().size())
        add_symbols(image_.contents(section), image_.contents(image_.sections()[header.sh_link]));
    }
    if (go_table) add_go_functions(*go_table);
    if (image_.is_exhausted())
      return failure(fmt::format("has more names than fit into {} bytes", ElfImage::kMaxBytes));
    std::erase_if(functions, [&](const Function& f) { return chosen_.contains(f.name); });
    if (functions.empty()) return failure("has neither symbols nor a Go function table");
    const auto key = [](const Function& f) { return std::tie(f.file_offset, f.name); };
    std::ranges::sort(functions, {}, key);
    const auto is_same = [&](const Function& a, const Function& b) { return key(a) == key(b); };
    functions.erase(std::unique(functions.begin(), functions.end(), is_same), functions.end());
    functions.shrink_to_fit();
    return {};
  }

 private:
  void add(std::string_view name, std::uint64_t file_offset)
  {
    if (!name.empty()) functions.push_back({std::string(name), file_offset});
  }

  void add_symbols(ByteView symbols, ByteView names)
  {
    const bool is_go = convention == CallingConvention::Go;
    for (std::size_t at = 0; const auto symbol = value_at<Elf64_Sym>(symbols, at); at += sizeof *symbol) {
      const auto type = ELF64_ST_TYPE(symbol->st_info);
      if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_shndx == SHN_UNDEF) continue;
      if (is_go && symbol->st_size == 0) continue;  // runtime.text, runtime.etext: bounds
      const auto file_offset = image_.file_offset_of(symbol->st_value);
      if (!file_offset) continue;
      const std::string_view linked = image_.name_at(names, symbol->st_name);
      // ".symtab" has "memcpy@@GLIBC_2.14"
      const std::string_view name = linked.substr(0, linked.find('@', 1));
      if (type == STT_GNU_IFUNC)
        chosen_.emplace(name);
      else if (is_go || !is_cold_part(name))
        add(name, *file_offset);
    }
  }

  void add_go_functions(const GoTable& table)
  {
    const ByteView bytes = from(image_.contents(*table.section), table.offset);
    const ByteView entries = from(bytes, table.header.functions), names = from(bytes, table.header.names);
    const auto first = value_at<FunctionEntry>(entries, 0);
    const auto text = first ? go_text(image_, table, first->code) : std::nullopt;
    for (std::uint64_t i = 0; text && i < table.header.function_count; ++i) {
      const auto entry = value_at<FunctionEntry>(entries, i * sizeof(FunctionEntry));
      if (!entry) break;
      const auto function = value_at<Func>(entries, entry->function);
      const auto file_offset = image_.file_offset_of(*text + entry->code);
      if (function && function->code == entry->code && file_offset)
        add(image_.name_at(names, function->name), *file_offset);
    }
  }

  ElfImage image_;
  // What the loader asks code of that name for the address of. libc's memcpy is, and a function that no new program
  // calls has the name, too.
  std::set<std::string, std::less<>> chosen_;
};

// ---- names ----

bool is_wildcard(std::string_view pattern, std::size_t at)
{
  return pattern[at] == '*' && (at == 0 || pattern[at - 1] != '(');
}

bool has_wildcard(std::string_view pattern)
{
  for (std::size_t at = 0; at < pattern.size(); ++at)
    if (is_wildcard(pattern, at)) return true;
  return false;
}

bool matches(std::string_view pattern, std::string_view name)
{
  std::size_t p = 0, n = 0, behind_wildcard = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && is_wildcard(pattern, p)) {
      behind_wildcard = ++p;
      retry = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (behind_wildcard != std::string_view::npos) {
      p = behind_wildcard;
      n = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && is_wildcard(pattern, p)) ++p;
  return p == pattern.size();
}

// Where the bracket that ends `text` begins; npos: it ends with none, or it has no beginning.
std::size_t last_bracket(std::string_view text, char begin, char end)
{
  int depth = 0;
  for (std::size_t at = text.size(); at-- > 0;) {
    depth += (text[at] == end) - (text[at] == begin);
    if (depth == 0) return text[at] == begin ? at : std::string_view::npos;
  }
  return std::string_view::npos;
}

// Of "void shop::Cart::add<int>(int) const" it is "shop::Cart::add<int>".
std::string_view without_parameters(std::string_view written)
{
  for (const std::string_view behind : {" const", " volatile", " &", " &&", " noexcept"})
    if (written.ends_with(behind)) written.remove_suffix(behind.size());
  if (written.ends_with(')')) written = written.substr(0, last_bracket(written, '(', ')'));
  const std::size_t conversion = written.rfind("operator ");  // "operator bool", "operator new"
  int depth = 0;
  for (std::size_t at = std::min(conversion, written.size()); at-- > 0;) {
    const char c = written[at];
    depth += (c == '>' || c == ')' || c == '}') - (c == '<' || c == '(' || c == '{');
    if (c == ' ' && depth == 0) return written.substr(at + 1);
  }
  return written;
}

std::string_view without_instance(std::string_view name)
{
  return name.ends_with('>') ? name.substr(0, last_bracket(name, '<', '>')) : name;
}

// What a mangled name has, too: of "shop::Cart::add(int)" it is "add". Empty: nothing.
std::string_view spelled_out(std::string_view written)
{
  std::string_view name = without_instance(without_parameters(written));
  name = name.substr(name.find_last_of(":~") + 1);
  const std::size_t wildcard = name.find('*');
  return name.starts_with("operator") ? std::string_view{} : name.substr(0, wildcard);
}

bool is_written_as(std::string_view meant, const std::string& mangled)
{
  if (!mangled.starts_with("_Z") || mangled.find(spelled_out(meant)) == std::string::npos) return false;
  const std::string written = demangled(mangled);
  if (written == mangled || written.find(" [clone ") != std::string::npos) return false;  // arguments of a clone may be others
  const std::string_view name = without_parameters(written);
  for (const std::string_view candidate : {std::string_view(written), name, without_instance(name)})
    if (candidate == meant || (has_wildcard(meant) && matches(meant, candidate))) return true;
  return false;
}

std::string lower(std::string_view name)
{
  std::string text(name);
  std::ranges::transform(text, text.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

// Of "net/http.(*persistConn).readLoop" it is "readLoop", of "slices.Sort[go.shape.int]" "Sort".
std::string_view last_component(std::string_view name)
{
  name = name.substr(0, name.find('['));
  return name.substr(name.find_last_of("./:") + 1);
}

// Bytes to insert, remove, replace or swap with their neighbour; anything above `limit` is limit + 1.
std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit)
{
  if (std::max(a.size(), b.size()) - std::min(a.size(), b.size()) > limit) return limit + 1;
  std::vector<std::size_t> second(b.size() + 1), above(b.size() + 1),
      row(b.size() + 1);  // of the matrix, the last three
  std::iota(above.begin(), above.end(), 0U);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], second[j - 2] + 1);
    }
    std::swap(second, above);
    std::swap(above, row);
  }
  return std::min(above.back(), limit + 1);
}

// How much of their beginnings and ends is the same.
std::size_t common_ends(std::string_view a, std::string_view b)
{
  const auto front = std::ranges::mismatch(a, b).in1 - a.begin();
  const auto back = std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin();
  return static_cast<std::size_t>(front + back);
}

}  // namespace

Result<FunctionTable> FunctionTable::open(const std::string& path)
{
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  return file ? open(std::move(file)) : errno_failure("cannot be opened");
}

Result<FunctionTable> FunctionTable::open(Fd file)
{
  auto image = ElfImage::open(std::move(file));
  return image ? open(std::move(*image)) : tl::make_unexpected(image.error());
}

Result<FunctionTable> FunctionTable::open(ElfImage image)
{
  Reader reader(std::move(image));
  if (auto read = reader.read(); !read) return tl::make_unexpected(read.error());
  FunctionTable table;
  table.functions_ = std::move(reader.functions);
  table.convention_ = reader.convention;
  return table;
}

std::vector<Function> FunctionTable::find(std::string_view name) const
{
  std::vector<Function> found;
  const auto collect = [&](const auto& is_meant) {
    for (const Function& function : functions_)  // ascending
      if (is_meant(function.name) && (found.empty() || found.back().file_offset != function.file_offset))
        found.push_back(function);
  };
  collect([&](std::string_view candidate) { return candidate == name; });
  if (found.empty() && has_wildcard(name))
    collect([&](std::string_view candidate) { return matches(name, candidate); });
  if (found.empty() && (!has_wildcard(name) || name.find("::") != std::string_view::npos))
    collect([&](const std::string& candidate) { return is_written_as(name, candidate); });
  return found;
}

std::string FunctionTable::at(std::uint64_t file_offset) const
{
  const auto after = std::ranges::upper_bound(functions_, file_offset, {}, &Function::file_offset);
  return after == functions_.begin() ? std::string{} : std::prev(after)->name;
}

std::vector<std::string> FunctionTable::similar(std::string_view name, std::size_t count) const
{
  constexpr std::size_t kMaxEdited = 64;  // bytes: what is longer is not typed
  std::string meant = lower(name);
  std::erase(meant, '*');
  const std::string component(last_component(meant));
  if (component.empty()) return {};
  const std::size_t limit = component.size() > kMaxEdited ? 0 : std::clamp<std::size_t>(component.size() / 3, 1, 3);
  struct Candidate {
    std::size_t distance, different_bytes;
    std::string name;
    auto key() const { return std::tie(distance, different_bytes, name); }
  };
  const bool as_written = name.find("::") != std::string_view::npos;
  std::vector<Candidate> best;  // ascending
  for (const Function& function : functions_) {
    const std::string shown = as_written ? std::string(without_parameters(demangled(function.name))) : function.name;
    std::string text = lower(shown);
    std::erase(text, '*');
    const std::string_view last = last_component(text);
    std::size_t distance = 3;
    if (last == component)
      distance = 0;
    else if (last.find(component) != std::string_view::npos)
      distance = 1;
    else if (const auto edits = edit_distance(last, component, limit); edits <= limit)
      distance = 1 + edits;
    else if (text.find(component) == std::string_view::npos)
      continue;
    const std::size_t longer = std::max(text.size(), meant.size());
    const Candidate candidate{distance, longer - std::min(longer, common_ends(text, meant)), shown};
    const auto place = std::ranges::lower_bound(best, candidate.key(), {}, &Candidate::key);
    if (place != best.end() && place->name == shown) continue;  // at another address
    best.insert(place, candidate);
    if (best.size() > count) best.pop_back();
  }
  std::vector<std::string> names;
  for (const Candidate& candidate : best) names.push_back(candidate.name);
  return names;
}

}  // namespace laggard::identify
