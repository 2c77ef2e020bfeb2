// SPDX-License-Identifier: MIT
// Against programs of the build (tests/symbols/), this one, libc, and made-up ones: Go is not needed.
#include "identify/functions.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

#include "identify/process_maps.h"
#include "symbols/harness.h"

extern "C" __attribute__((noinline, used)) int laggard_test_function(int a) { return a * 3; }

// As people write them.
namespace shop {
struct Cart {
  int add(int what) const;
  int add(const char* what) const;
  template <class T>
  void pay(T what);
  bool operator()(int what) const;
  int sum = 1;
};
__attribute__((noinline, used)) int Cart::add(int what) const { return sum * what; }
__attribute__((noinline, used)) int Cart::add(const char* what) const { return sum + static_cast<int>(std::strlen(what)); }
template <class T>
__attribute__((noinline, used)) void Cart::pay(T what)
{
  sum += static_cast<int>(what);
}
template void Cart::pay<int>(int);
template void Cart::pay<unsigned long>(unsigned long);
__attribute__((noinline, used)) bool Cart::operator()(int what) const { return sum == what; }
}  // namespace shop
__attribute__((noinline, used)) int laggard_test_of_no_namespace(int a) { return a * 5; }

namespace laggard::identify {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kHost = EM_X86_64, kOther = EM_AARCH64;
constexpr std::uint64_t kRelative = R_X86_64_RELATIVE;
constexpr const char* kIsForOther = "is built for AArch64, and this host is x86-64";
#else
constexpr Elf64_Half kHost = EM_AARCH64, kOther = EM_X86_64;
constexpr std::uint64_t kRelative = R_AARCH64_RELATIVE;
constexpr const char* kIsForOther = "is built for x86-64, and this host is AArch64";
#endif

using Offsets = std::vector<std::uint64_t>;
using Names = std::vector<std::string>;

FunctionTable table_of(const std::string& path)
{
  auto table = FunctionTable::open(path);
  EXPECT_TRUE(table) << (table ? "" : table.error().message());
  return table ? *table : FunctionTable();
}

std::string error_of(const std::string& path)
{
  const auto table = FunctionTable::open(path);
  return table ? "" : table.error().message();
}

Offsets offsets(const FunctionTable& table, std::string_view name)
{
  Offsets found;
  for (const Function& function : table.find(name)) found.push_back(function.file_offset);
  return found;
}

Names names(const FunctionTable& table, std::string_view name)
{
  Names found;
  for (const Function& function : table.find(name)) found.push_back(function.name);
  return found;
}

void write(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

template <class T>
std::string bytes_of(const T& value)
{
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// ---- made-up files ----

constexpr std::uint64_t kCodeOffset = 0x1000, kCode = 0x401000, kCodeBytes = 0x1000;
constexpr std::uint64_t kTable = 0x600000, kModule = 0x700000;

// A program with one segment of code, and what sections one wants.
class Elf {
 public:
  Elf() { sections_.push_back({}); }
  // Its number.
  Elf64_Word add(const std::string& name, Elf64_Word type, std::uint64_t address, std::string contents,
                 Elf64_Word link = 0, std::uint64_t flags = SHF_ALLOC)
  {
    Elf64_Shdr header{};
    header.sh_name = static_cast<Elf64_Word>(names_.size());
    header.sh_type = type;
    header.sh_flags = flags;
    header.sh_addr = address;
    header.sh_link = link;
    header.sh_size = contents.size();
    names_ += name + '\0';
    sections_.push_back({header, std::move(contents)});
    return static_cast<Elf64_Word>(sections_.size() - 1);
  }

  struct Symbol {
    std::string name;
    std::uint64_t address = kCode;
    unsigned char type = STT_FUNC;
    Elf64_Half section = 1;
    std::uint64_t bytes = 16;
  };
  void add_symbols(const std::vector<Symbol>& symbols)
  {
    std::string text(1, '\0'), table(sizeof(Elf64_Sym), '\0');
    for (const Symbol& symbol : symbols) {
      Elf64_Sym entry{};
      entry.st_name = static_cast<Elf64_Word>(text.size());
      entry.st_info = ELF64_ST_INFO(STB_GLOBAL, symbol.type);
      entry.st_shndx = symbol.section;
      entry.st_value = symbol.address;
      entry.st_size = symbol.bytes;
      text += symbol.name + '\0';
      table += bytes_of(entry);
    }
    add(".symtab", SHT_SYMTAB, 0, table, add(".strtab", SHT_STRTAB, 0, text));
  }

  Elf64_Shdr& header(Elf64_Word section) { return sections_[section].header; }

  std::string bytes()
  {
    const Elf64_Word names = add(".shstrtab", SHT_STRTAB, 0, "");
    sections_[names].contents = names_;
    sections_[names].header.sh_size = names_.size();
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = kHost;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<Elf64_Half>(sections_.size());
    header.e_shstrndx = static_cast<Elf64_Half>(names);
    std::string body(kCodeOffset + kCodeBytes, '\0'), headers;
    for (Section& section : sections_) {
      section.header.sh_offset = body.size();
      body += section.contents;
      headers += bytes_of(section.header);
    }
    header.e_shoff = body.size();
    Elf64_Phdr data{}, code{};
    data.p_type = code.p_type = PT_LOAD;
    data.p_flags = PF_R;  // the same addresses, but no code
    data.p_vaddr = kCode;
    data.p_filesz = kCodeBytes;
    code.p_flags = PF_R | PF_X;
    code.p_offset = kCodeOffset;
    code.p_vaddr = kCode;
    code.p_filesz = code.p_memsz = kCodeBytes;
    const std::string start = bytes_of(header) + bytes_of(data) + bytes_of(code);
    return body.replace(0, start.size(), start) + headers;
  }

 private:
  struct Section {
    Elf64_Shdr header{};
    std::string contents;
  };
  std::vector<Section> sections_;
  std::string names_ = std::string(1, '\0');
};

struct GoFunction {
  std::string name;
  std::uint32_t code;
};
const std::vector<GoFunction> kGoFunctions = {{"runtime.main", 0x20},
                                              {"net/http.(*persistConn).readLoop", 0x100},
                                              {"net/http.(*persistConn).readLoop.func1", 0x180},
                                              {"slices.Sort[...]", 0x1c0},
                                              {"slices.Sort[...]", 0x1e0},
                                              {"main." + std::string(2048, 'x'), 0x200}};
constexpr std::uint32_t kGo120 = 0xfffffff1, kGo118 = 0xfffffff0;
constexpr std::uint64_t kText = kCode + 0x40;  // C's start files are in front

std::string go_table(std::uint32_t magic, std::uint64_t text, const std::vector<GoFunction>& functions = kGoFunctions)
{
  std::string text_names(1, '\0'), entries, bodies;
  const std::size_t entries_bytes = functions.size() * 8 + 4;
  for (const GoFunction& function : functions) {
    entries += bytes_of(function.code) + bytes_of(static_cast<std::uint32_t>(entries_bytes + bodies.size()));
    bodies += bytes_of(function.code) + bytes_of(static_cast<std::int32_t>(text_names.size())) + std::string(36, '\0');
    text_names += function.name + '\0';
  }
  entries += bytes_of(std::uint32_t{0x300});
  const std::array<std::uint64_t, 8> words = {functions.size(), 0, text, 72, 0, 0, 0, 72 + text_names.size()};
  return bytes_of(magic) + std::string("\0\0\1\10", 4) + bytes_of(words) + text_names + entries + bodies;
}

std::string go_program(const std::string& table, const std::string& section = ".gopclntab")
{
  Elf elf;
  elf.add(section, SHT_PROGBITS, kTable, table);
  elf.add(".go.buildinfo", SHT_PROGBITS, 0, "");
  return elf.bytes();
}

// runtime.moduledata of 1.26 to its fields minpc, maxpc, text.
std::string go_module(std::uint64_t table, std::uint64_t first, std::uint64_t text)
{
  std::array<std::uint64_t, 24> words{};
  words[0] = table;
  words[20] = first;
  words[22] = text;
  return bytes_of(words);
}

void expect_go_functions(const FunctionTable& table)
{
  const std::uint64_t text = kCodeOffset + (kText - kCode);
  EXPECT_EQ(table.calling_convention(), CallingConvention::Go);
  EXPECT_EQ(offsets(table, "net/http.(*persistConn).readLoop"), Offsets{text + 0x100});
  EXPECT_EQ(offsets(table, "slices.Sort[...]"), (Offsets{text + 0x1c0, text + 0x1e0}));
  EXPECT_EQ(offsets(table, kGoFunctions.back().name), Offsets{text + 0x200});
  EXPECT_EQ(table.find("*").size(), kGoFunctions.size());
}

class Functions : public ::testing::Test {
 protected:
  FunctionTable table(const std::string& bytes)
  {
    write(path_, bytes);
    return table_of(path_);
  }
  std::string error(const std::string& bytes)
  {
    write(path_, bytes);
    return error_of(path_);
  }
  Directory directory_;
  std::string path_ = directory_ / "file";
};

// ---- symbols ----

// Where this process has what is at `offset` of the file that `inside` is from.
std::optional<std::uint64_t> mapped(const void* inside, std::uint64_t offset)
{
  const auto address = reinterpret_cast<std::uint64_t>(inside);
  std::ifstream file("/proc/self/maps");
  const auto maps = parse_maps((std::stringstream() << file.rdbuf()).str());
  const auto own = std::ranges::find_if(maps, [&](const Mapping& m) { return address >= m.start && address < m.end; });
  for (const Mapping& m : maps)
    if (own != maps.end() && m.is_executable && m.inode == own->inode && offset >= m.file_offset &&
        offset - m.file_offset < m.end - m.start)
      return m.start + (offset - m.file_offset);
  return std::nullopt;
}

TEST_F(Functions, AreWhereThisProcessHasThem)
{
  const auto function = reinterpret_cast<const void*>(&laggard_test_function);
  const FunctionTable own = table_of("/proc/self/exe");
  EXPECT_EQ(own.calling_convention(), CallingConvention::SystemV);
  const Offsets found = offsets(own, "laggard_test_function");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(mapped(function, found[0]), reinterpret_cast<std::uint64_t>(function));
}

TEST_F(Functions, OfALibraryWithExportedNamesOnly)
{
  void* opened = ::dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);  // not a sanitizer's function of that name
  ASSERT_NE(opened, nullptr);
  const void* function = ::dlsym(opened, "qsort");
  ::dlclose(opened);
  Dl_info info;
  ASSERT_NE(::dladdr(function, &info), 0);
  const FunctionTable libc = table_of(info.dli_fname);
  const Offsets found = offsets(libc, "qsort");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(mapped(function, found[0]), reinterpret_cast<std::uint64_t>(function));
  EXPECT_GT(libc.find("pthread_*").size(), 50U);
}

TEST_F(Functions, OfAStrippedProgramAreItsExportedOnes)
{
  const FunctionTable whole = table_of(kTarget), stripped = table_of(kStripped);
  EXPECT_EQ(offsets(whole, "main").size(), 1U);
  EXPECT_EQ(offsets(whole, "main"), offsets(stripped, "main"));
  EXPECT_EQ(offsets(whole, "*hidden_work*").size(), 1U);
  EXPECT_TRUE(stripped.find("*hidden_work*").empty());
  EXPECT_GT(whole.find("*").size(), stripped.find("*").size());
}

TEST_F(Functions, OnlyDefinedOnesInCode)
{
  Elf elf;
  elf.add(".text", SHT_PROGBITS, kCode, "");
  elf.add_symbols({{"here", kCode + 0x10},
                   {"alias", kCode + 0x10},
                   {"old@VERS_1", kCode + 0x20},
                   {"new@@VERS_2", kCode + 0x30},
                   {"last", kCode + kCodeBytes - 1},
                   {"behind", kCode + kCodeBytes},
                   {"far", ~0ULL},
                   {"elsewhere", kCode + 0x40, STT_FUNC, SHN_UNDEF},
                   {"object", kCode + 0x50, STT_OBJECT},
                   {"here.cold", kCode + 0x60},
                   {"here.cold.7", kCode + 0x70},
                   {"here.coldest", kCode + 0x80},
                   {"chosen", kCode + 0x90, STT_GNU_IFUNC},
                   {"chosen", kCode + 0xa0},
                   {"", kCode + 0xb0}});
  const FunctionTable found = table(elf.bytes());
  EXPECT_EQ(names(found, "*"), (Names{"alias", "old", "new", "here.coldest", "last"}));
  EXPECT_EQ(offsets(found, "here"), Offsets{kCodeOffset + 0x10});
  EXPECT_EQ(offsets(found, "new"), Offsets{kCodeOffset + 0x30});
  EXPECT_EQ(offsets(found, "last"), Offsets{kCodeOffset + kCodeBytes - 1});
}

TEST_F(Functions, OfGoKeepACalledCold)
{
  Elf elf;
  elf.add(".gopclntab", SHT_PROGBITS, kTable, "");
  elf.add_symbols({{"main.cold", kCode + 0x10}, {"runtime.etext", kCode + 0x20, STT_FUNC, 1, 0}});
  const FunctionTable found = table(elf.bytes());
  EXPECT_EQ(found.calling_convention(), CallingConvention::Go);
  EXPECT_EQ(names(found, "*"), Names{"main.cold"});
}

// ---- Go's own table ----

TEST_F(Functions, OfGosTable)
{
  for (const std::uint32_t magic : {kGo118, kGo120})
    for (const char* section : {".gopclntab", ".data.rel.ro.gopclntab"})
      expect_go_functions(table(go_program(go_table(magic, kText), section)));
}

TEST_F(Functions, OfGosTableWithinAnotherSection)
{
  const std::string in_front = std::string(24, '\xff') + std::string(8, '\0') + bytes_of(kGo120) + std::string(4, '\0');
  expect_go_functions(table(go_program(in_front + go_table(kGo120, kText), ".data.rel.ro")));
}

TEST_F(Functions, OfGosTableWhoseTextIsRelocated)
{
  Elf elf;
  elf.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, 0));
  const Elf64_Rela other{kTable + 8, kRelative, 4096}, text{kTable + 24, kRelative, static_cast<std::int64_t>(kText)};
  elf.add(".rela.dyn", SHT_RELA, 0, bytes_of(other) + bytes_of(text));
  expect_go_functions(table(elf.bytes()));
}

TEST_F(Functions, OfGosTableWhoseTextIsInModuledata)
{
  const std::uint64_t first = kText + kGoFunctions[0].code;
  Elf elf;
  elf.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, 0));
  elf.add(".go.module", SHT_PROGBITS, kModule, go_module(kTable, first, kText));
  expect_go_functions(table(elf.bytes()));

  Elf relocated;
  relocated.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, 0));
  relocated.add(".go.module", SHT_PROGBITS, kModule, go_module(0, 0, 0));
  std::string relocations;
  for (const auto& [word, value] : {std::pair{0U, kTable}, {20U, first}, {22U, kText}})
    relocations += bytes_of(Elf64_Rela{kModule + word * 8, kRelative, static_cast<std::int64_t>(value)});
  relocated.add(".rela.dyn", SHT_RELA, 0, relocations);
  expect_go_functions(table(relocated.bytes()));
}

// A breakpoint at a guessed address would damage the program.
TEST_F(Functions, OfGosTableAreNotGuessed)
{
  const std::string nothing = "has neither symbols nor a Go function table";
  EXPECT_EQ(error(go_program(go_table(kGo120, 0))), nothing);
  for (const std::string& module : {go_module(kTable, kText, kText), go_module(kTable + 8, kText + 0x20, kText)}) {
    Elf elf;
    elf.add(".text", SHT_PROGBITS, kCode, "");
    elf.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, 0));
    elf.add(".go.module", SHT_PROGBITS, kModule, module);
    EXPECT_EQ(error(elf.bytes()), nothing);
  }
}

TEST_F(Functions, OfGosTableAndOfSymbolsTogether)
{
  Elf elf;
  elf.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, kText));
  elf.add_symbols({{"slices.Sort[go.shape.int]", kText + 0x1c0}, {"runtime.main", kText + 0x20}, {"c_code", kCode}});
  const FunctionTable found = table(elf.bytes());
  EXPECT_EQ(found.find("slices.Sort[...]").size(), 2U);
  EXPECT_EQ(found.find("slices.Sort[go.shape.int]").size(), 1U);
  EXPECT_EQ(found.find("slices.Sort*").size(), 2U);  // each address once
  EXPECT_EQ(found.find("runtime.main").size(), 1U);
  EXPECT_EQ(found.find("*").size(), kGoFunctions.size() + 1);
}

TEST_F(Functions, AnOldGoIsAnError)
{
  for (const std::uint32_t magic : {0xfffffffaU, 0xfffffffbU})
    EXPECT_EQ(error(go_program(go_table(magic, kText))),
              "is built by a Go before 1.18, whose function calls are not known here");
  EXPECT_EQ(error(go_program(go_table(0xffffffe1, kText))), "has neither symbols nor a Go function table");
}

// ---- by name ----

TEST_F(Functions, AStarBehindAParenthesisIsItself)
{
  const FunctionTable go = table(go_program(go_table(kGo120, kText)));
  EXPECT_EQ(names(go, "net/http.(*persistConn).*"),
            (Names{"net/http.(*persistConn).readLoop", "net/http.(*persistConn).readLoop.func1"}));
  EXPECT_EQ(go.find("*readLoop").size(), 1U);
  EXPECT_EQ(go.find("net/http.(**).readLoop").size(), 1U);
  EXPECT_EQ(go.find("*(*persistConn)*func1").size(), 1U);
  EXPECT_EQ(go.find("net/http.(*persistConn).readLoop**").size(), 2U);
  EXPECT_TRUE(go.find("net/http.(*).readLoop").empty());
  EXPECT_TRUE(go.find("readLoop").empty());
  EXPECT_TRUE(go.find("*readLoo").empty());
  EXPECT_TRUE(go.find("").empty());
  EXPECT_EQ(go.find("slices.Sort[*]").size(), 2U);
}

TEST_F(Functions, SimilarNames)
{
  std::vector<GoFunction> functions;
  for (const char* name : {"net/http.(*persistConn).readLoop", "net/http.(*http2ClientConn).readLoop",
                           "net/http.(*persistConn).readLoopPeekFailLocked", "net/http.(*persistConn).roundTrip",
                           "os.(*File).Read", "runtime.main", "fmt.Fprintln"})
    functions.push_back({name, static_cast<std::uint32_t>(functions.size() * 16)});
  functions.push_back({"fmt.Fprintln", 0x400});
  const FunctionTable go = table(go_program(go_table(kGo120, kText, functions)));
  EXPECT_EQ(go.similar("http.(persistConn).readloop"),
            (Names{functions[0].name, functions[1].name, functions[2].name}));
  EXPECT_EQ(go.similar("net/http.(*persistConn).readLop", 1), Names{functions[0].name});
  EXPECT_EQ(go.similar("os.(*File).Raed"), Names{"os.(*File).Read"});
  EXPECT_EQ(go.similar("fmt.FPrintLine"), Names{"fmt.Fprintln"});
  EXPECT_TRUE(go.similar("entirely.different").empty());
  EXPECT_TRUE(go.similar("").empty());
  EXPECT_TRUE(go.similar("runtime.main", 0).empty());
  EXPECT_TRUE(go.similar(std::string(100000, 'a')).empty());
}

// ---- files that are none, or meant to harm ----

TEST_F(Functions, WhatIsNoElfFileOfThisHost)
{
  EXPECT_EQ(error_of(directory_ / "missing"), "cannot be opened: No such file or directory");
  EXPECT_EQ(error_of(directory_.path()), "is not a regular file");
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(error_of(directory_ / "fifo"), "is not a regular file");
  EXPECT_EQ(error(""), "is no ELF file");
  EXPECT_EQ(error("#!/bin/sh\n"), "is no ELF file");
  EXPECT_EQ(error(ELFMAG), "has damaged ELF headers");

  const std::string good = Elf().bytes();
  EXPECT_EQ(error(good), "has neither symbols nor a Go function table");
  std::string other = good;
  other.replace(offsetof(Elf64_Ehdr, e_machine), 2, bytes_of(kOther));
  EXPECT_EQ(error(other), kIsForOther);
  other.replace(offsetof(Elf64_Ehdr, e_machine), 2, std::string("\0\x16", 2));  // EM_S390, in its own byte order
  other[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(error(other).find("is built for ELF machine 22, big-endian, and this host is "), 0U) << error(other);
  other[EI_DATA] = ELFDATA2LSB;
  other.replace(offsetof(Elf64_Ehdr, e_machine), 2, bytes_of(Elf64_Half{EM_386}));
  other[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(error(other).find("is built for i386, and this host is "), 0U) << error(other);
}

TEST_F(Functions, AFileOfDebugInformationOnly)
{
  Elf elf;
  elf.add(".text", SHT_NOBITS, kCode, "", 0, SHF_ALLOC | SHF_EXECINSTR);
  elf.add_symbols({{"work", kCode + 0x10}});
  EXPECT_EQ(error(elf.bytes()), "holds debug information of another file, whose functions are to be named");
}

TEST_F(Functions, TooManyNamesAreAnError)
{
  Elf elf;
  elf.add_symbols({{"work"}});
  const Elf64_Word symbols = elf.add(".symtab", SHT_SYMTAB, 0, "");
  elf.header(symbols).sh_size = (1ULL << 30) + 1;
  write(path_, elf.bytes());
  fs::resize_file(path_, 2ULL << 30);  // sparse
  EXPECT_EQ(error_of(path_), "has more names than fit into 1073741824 bytes");
}

TEST_F(Functions, SurviveDamagedFiles)
{
  Elf with_all;
  with_all.add(".gopclntab", SHT_PROGBITS, kTable, go_table(kGo120, 0));
  with_all.add(".go.module", SHT_PROGBITS, kModule, go_module(kTable, kText + kGoFunctions[0].code, kText));
  with_all.add(".rela.dyn", SHT_RELA, 0, bytes_of(Elf64_Rela{kTable + 8, kRelative, 4096}));
  with_all.add_symbols({{"main.main", kCode}, {"main.work", kCode + 0x20}});
  const std::string go = go_program(go_table(kGo118, kText));
  std::mt19937_64 random(20231107);
  int opened = 0;
  for (const std::string& good : {content(kStripped), go, with_all.bytes()}) {
    const std::size_t all = table(good).find("*").size();
    const std::size_t step = std::max<std::size_t>(1, good.size() / 300);
    const auto look = [&](const std::string& damaged) {
      const Fd memory(::memfd_create("damaged", MFD_CLOEXEC));  // a disk takes seconds for them
      ASSERT_EQ(::write(memory.get(), damaged.data(), damaged.size()), static_cast<ssize_t>(damaged.size()));
      const auto found = FunctionTable::open("/proc/self/fd/" + std::to_string(memory.get()));
      if (!found) return;
      ++opened;
      EXPECT_FALSE(found->find("*").empty());
      found->similar("main.wrok");
      for (const Function& function : found->find("*")) EXPECT_LT(function.file_offset, damaged.size());
    };
    for (std::size_t length = 0; length < good.size(); length += step) look(good.substr(0, length));
    // Made-up code is empty: damage what is not.
    std::vector<std::size_t> places;
    for (std::size_t at = 0; at < good.size(); ++at)
      if (at < kCodeOffset || at >= kCodeOffset + kCodeBytes) places.push_back(at);
    for (int i = 0; i < 1500; ++i) {
      std::string damaged = good;
      for (std::size_t flips = 1 + random() % 8; flips > 0; --flips) {
        char& byte = damaged[i % 2 == 0 ? random() % 192 : places[random() % places.size()]];
        byte = static_cast<char>(byte ^ (1 << random() % 8));
      }
      if (i % 3 == 0)  // a whole number of the section headers, or of a table
        damaged.replace(places[random() % places.size()] / 8 * 8, 8,
                        bytes_of(random() % 2 == 0 ? ~0ULL : random() >> random() % 64));
      look(damaged);
    }
    EXPECT_GT(all, 0U);
  }
  EXPECT_GT(opened, 500);
  EXPECT_LE(open_descriptors(), 64U);
}

TEST(FunctionsInCpp, AreFoundAsPeopleWriteThem)
{
  const FunctionTable table = table_of("/proc/self/exe");
  EXPECT_EQ(table.find("shop::Cart::add").size(), 2U);
  EXPECT_EQ(table.find("shop::Cart::add(int) const").size(), 1U);
  EXPECT_EQ(table.find("shop::Cart::add(char const*) const").size(), 1U);
  EXPECT_EQ(table.find("shop::Cart::add(long) const").size(), 0U);
  EXPECT_EQ(table.find("shop::Cart::pay").size(), 2U);
  EXPECT_EQ(table.find("shop::Cart::pay<int>").size(), 1U);
  EXPECT_EQ(table.find("shop::Cart::operator()").size(), 1U);
  EXPECT_EQ(table.find("shop::*::add").size(), 2U);
  EXPECT_EQ(table.find("laggard_test_of_no_namespace").size(), 1U);
  EXPECT_EQ(table.find("shop::Cart").size(), 0U);
  EXPECT_EQ(offsets(table, "shop::Cart::add(int) const"), offsets(table, "_ZNK4shop4Cart3addEi"));
  const Names similar = table.similar("shop::Cart::ad");
  EXPECT_NE(std::ranges::find(similar, "shop::Cart::add"), similar.end());
}

}  // namespace
}  // namespace laggard::identify
