// SPDX-License-Identifier: MIT
// Against real processes (tests/symbols/) and made-up ones.
#include "identify/symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "identify/demangle.h"
#include "identify/process_maps.h"
#include "symbols/harness.h"

// elfutils 0.188 leaks a section's bytes where its header was damaged (elf_strptr).
extern "C" const char* __lsan_default_suppressions() { return "leak:libelf.so"; }
// As malloc() does.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace laggard::identify {
namespace {

// ---- unwinding ----

StackCopy own_stack;  // filled within the callback

extern "C" __attribute__((noinline)) int copy_own_stack(const void* a, const void* b)
{
  ucontext_t context;
  ::getcontext(&context);
  own_stack.register_count = kRegisters;
#if defined(__x86_64__)
  const auto& r = context.uc_mcontext.gregs;
  const int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
                       REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  std::transform(std::begin(order), std::end(order), own_stack.registers.begin(),
                 [&](int reg) { return static_cast<std::uint64_t>(r[reg]); });
#else
  std::copy_n(context.uc_mcontext.regs, 31, own_stack.registers.begin());
  own_stack.registers[31] = context.uc_mcontext.sp;
  own_stack.registers[32] = context.uc_mcontext.pc;
#endif
  own_stack.bytes = read_memory(::getpid(), own_stack.registers[kStackPointer], kStackBytes);
  return std::memcmp(a, b, 1);
}

extern "C" __attribute__((noinline)) void sort_and_copy_own_stack()
{
  char two[2] = {2, 1};
  std::qsort(two, 2, 1, copy_own_stack);
  asm volatile("" ::: "memory");
}

TEST(Symbols, UnwindsItself)
{
  sort_and_copy_own_stack();
  Symbols symbols = opened(::getpid());
  const auto frames = frames_of(symbols, own_stack);
  EXPECT_TRUE(
      leads_through(frames, {"copy_own_stack", "sort_and_copy_own_stack",
                             "laggard::identify::(anonymous namespace)::Symbols_UnwindsItself_Test::TestBody()"}));
}

TEST(Symbols, FindsTheCallersOfAFaultWithoutFramePointers)
{
  const Faulting target;
  Symbols symbols = opened(target.child.tgid());
  const auto frames = frames_of(symbols, target.stack);
  EXPECT_TRUE(leads_through(frames, kFaultChain));
  ASSERT_FALSE(frames.empty());
  EXPECT_EQ(frames[0].address, target.stack.registers[kProgramCounter]);
  EXPECT_NE(frames[0].module.find("libc"), std::string::npos) << listing(frames);  // memcpy
  const auto main = std::find_if(frames.begin(), frames.end(), [](const Frame& f) { return f.symbol == "main"; });
  ASSERT_NE(main, frames.end());
  EXPECT_EQ(main->module, fs::canonical(kTarget).string());
  EXPECT_TRUE(main->source_file.ends_with("symbols/target.cpp")) << main->source_file;
  EXPECT_GT(main->source_line, 80);
  EXPECT_GT(main->symbol_offset, 0U);
}

TEST(Symbols, OneSessionUnwindsManyStacks)
{
  const Faulting target;
  Symbols symbols = opened(target.child.tgid());
  const Words first = symbols.unwind(target.stack);
  ASSERT_GT(first.size(), kFaultChain.size());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(symbols.unwind(target.stack), first);
  EXPECT_EQ(symbols.unwind(target.stack, 3), Words(first.begin(), first.begin() + 3));
  EXPECT_TRUE(symbols.unwind(target.stack, 0).empty());
}

TEST(Symbols, ATruncatedCopyGivesTheInnermostCallers)
{
  Faulting target;
  Symbols symbols = opened(target.child.tgid());
  const Words whole = symbols.unwind(target.stack);
  std::size_t longest = 0;
  for (const std::size_t bytes : {0U, 7U, 8U, 64U, 120U, 200U, 400U}) {
    StackCopy cut = target.stack;
    cut.bytes.resize(bytes);
    const Words part = symbols.unwind(cut);
    ASSERT_GE(part.size(), 1U);
    ASSERT_LE(part.size(), whole.size());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin())) << bytes;
    EXPECT_GE(part.size(), longest);
    longest = part.size();
  }
  EXPECT_GT(longest, 1U);
  EXPECT_LT(longest, whole.size());
}

TEST(Symbols, MissingRegistersGiveNoFrames)
{
  Symbols symbols = opened(::getpid());
  StackCopy stack = own_stack;
  stack.register_count = 3;
  EXPECT_TRUE(symbols.unwind(stack).empty());
}

TEST(Symbols, SurvivesGarbageSamples)
{
  const Faulting target;
  Symbols symbols = opened(target.child.tgid());
  const Words real = symbols.unwind(target.stack);
  std::mt19937_64 random(20231107);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 500; ++i) {
    StackCopy stack = target.stack;
    for (std::uint64_t& value : stack.registers)
      if (random() % 2 == 0) value = random() >> random() % 64;
    if (i % 3 == 0)  // where there are unwind tables
      stack.registers[kProgramCounter] = real[random() % real.size()] + random() % 4096;
    if (i % 5 == 0) stack.registers[kFramePointer] = stack.registers[kStackPointer] + random() % 8192;
    for (std::byte& byte : stack.bytes)
      if (random() % 4 == 0) byte = static_cast<std::byte>(random());
    for (std::size_t at = 0; i % 2 == 0 && at + 8 <= stack.bytes.size(); at += 8)  // code everywhere
      std::memcpy(stack.bytes.data() + at, &real[random() % real.size()], 8);
    const Words frames = symbols.unwind(stack);
    ASSERT_GE(frames.size(), 1U);
    ASSERT_LE(frames.size(), 64U);
    ASSERT_EQ(frames[0], stack.registers[kProgramCounter]);
    for (const std::uint64_t address : frames) symbols.resolve(address, true);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Symbols, FollowsFramePointersWhereThereAreNoTables)
{
  const FakeProc proc;
  proc.write("maps", "10000-20000 r-xp 00000000 00:00 0 \n20000-30000 rwxp 00000000 00:00 0                  [heap]\n");
  Symbols symbols = proc.open();
  StackCopy stack;
  stack.register_count = kRegisters;
  stack.registers[kProgramCounter] = 0x10017;
  stack.registers[kStackPointer] = 0x7000'0000;
  stack.registers[kFramePointer] = 0x7000'0010;
  const Words words = {1, 2, 0x7000'0030, 0x10103, 3, 4, 0x7000'0040, 0x20207, 0x7000'0050, 0x30003, 0, 0};
  stack.bytes.resize(words.size() * 8);
  std::memcpy(stack.bytes.data(), words.data(), stack.bytes.size());
  const Words frames = symbols.unwind(stack);
#if defined(__x86_64__)
  EXPECT_EQ(frames, (Words{0x10017, 0x10103, 0x20207}));  // 0x30003 is no code
#else
  EXPECT_EQ(frames.front(), 0x10017U);
#endif
  const Frame heap = symbols.resolve(0x20207, true);
  EXPECT_EQ(heap.module, "[heap]");
  EXPECT_EQ(heap.module_offset, 0x207U);
  EXPECT_EQ(symbols.resolve(0x10103, true).module, "");
}

// ---- names ----

TEST(Symbols, ReturnAddressesBelongToTheCallBefore)
{
  Child child([] { Child::exec(kTarget, "wait"); });
  const Words at = child.hear();
  ASSERT_EQ(at.size(), 3U);
  Symbols symbols = opened(child.tgid());
  const Frame first = symbols.resolve(at[0], false);
  EXPECT_EQ(first.symbol, "exported_work");
  EXPECT_EQ(first.symbol_offset, 0U);
  EXPECT_NE(symbols.resolve(at[0], true).symbol, "exported_work");
  EXPECT_EQ(symbols.resolve(at[0] + 1, true).symbol, "exported_work");
  EXPECT_EQ(symbols.resolve(at[0] + 1, true).symbol_offset, 1U);
  EXPECT_EQ(symbols.resolve(at[2], false).symbol, "symbols_target::say_and_wait(char const*)");
  EXPECT_EQ(symbols.resolve(at[1], false).symbol, "symbols_target::hidden_work()");
  const Frame nowhere = symbols.resolve(17, false);
  EXPECT_EQ(nowhere.symbol + nowhere.module, "");
  EXPECT_EQ(nowhere.address, 17U);
}

TEST(Symbols, AStrippedFileHasItsExportedNamesOnly)
{
  Child child([] { Child::exec(kStripped, "wait"); });
  const Words at = child.hear();
  ASSERT_EQ(at.size(), 3U);
  Symbols symbols = opened(child.tgid());
  EXPECT_TRUE(symbols.missing().empty());
  EXPECT_EQ(symbols.resolve(at[0], false).symbol, "exported_work");
  // The exported function before it is not the one it is in.
  const Frame hidden = symbols.resolve(at[1], false);
  EXPECT_EQ(hidden.symbol, "");
  EXPECT_EQ(hidden.module, fs::canonical(kStripped).string());
  EXPECT_GT(hidden.module_offset, 0U);
  EXPECT_TRUE(says(symbols, "symbols_target_stripped is stripped: exported names only"));
  EXPECT_EQ(symbols.missing().size(), 1U);  // once

  const Faulting target(kStripped);  // the tables to unwind by are still there
  Symbols faulting = opened(target.child.tgid());
  EXPECT_GT(faulting.unwind(target.stack).size(), kFaultChain.size());
}

TEST(Symbols, ADeletedProgramKeepsItsNames)
{
  const Directory directory;
  const std::string copy = directory / "gone";
  fs::copy_file(kTarget, copy);
  const Faulting target(copy);
  fs::remove(copy);
  Symbols symbols = opened(target.child.tgid());
  EXPECT_TRUE(leads_through(frames_of(symbols, target.stack), kFaultChain));
}

TEST(Symbols, AReplacedProgramIsNotTakenForTheOneThatRuns)
{
  const Directory directory;
  const std::string copy = directory / "replaced";
  fs::copy_file(kTarget, copy);
  const Faulting target(copy);
  fs::rename(copy, directory / "before");
  fs::remove(directory / "before");
  fs::copy_file("/proc/self/exe", copy);
  Symbols symbols = opened(target.child.tgid());
  EXPECT_TRUE(leads_through(frames_of(symbols, target.stack), kFaultChain));
}

TEST(Symbols, ADeletedProgramThatCannotBeOpenedHasNoNames)
{
  const Directory directory;
  const std::string copy = directory / "gone";
  fs::copy_file(kTarget, copy);
  const Faulting target(copy);
  fs::remove(copy);
  const FakeProc proc(target.child.tgid(), {"maps", "root"});  // neither exe nor map_files
  Symbols symbols = proc.open();
  EXPECT_GE(symbols.unwind(target.stack).size(), 1U);
  const auto maps = parse_maps(content("/proc/" + std::to_string(target.child.tgid()) + "/maps"));
  const auto code = std::find_if(maps.begin(), maps.end(), [](const Mapping& m) { return m.is_executable; });
  ASSERT_NE(code, maps.end());
  const Frame frame = symbols.resolve(code->start + 17, false);
  EXPECT_EQ(frame.module, copy);
  EXPECT_EQ(frame.module_offset, code->file_offset + 17);
  EXPECT_EQ(frame.symbol, "");
  EXPECT_TRUE(says(symbols, "/gone was deleted: module and offset only"))
      << ::testing::PrintToString(symbols.missing());
}

TEST(Symbols, OpensFilesOfAnotherMountNamespace)
{
  if (!is_root()) GTEST_SKIP() << "needs root to make a mount namespace";
  const Directory directory;
  const std::string program = directory / "inside";
  Child child([&] {
    if (::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("laggard", directory.path().c_str(), "tmpfs", 0, nullptr) == 0 && fs::copy_file(kTarget, program))
      Child::exec(program, "wait");
    ::_exit(7);
  });
  const Words at = child.hear();
  if (at.size() != 3) GTEST_SKIP() << "mount namespaces are refused here";
  ASSERT_FALSE(fs::exists(program));
  const FakeProc proc(child.tgid(), {"maps", "root"});  // nothing but its root leads there
  Symbols symbols = proc.open();
  EXPECT_EQ(symbols.resolve(at[1], false).symbol, "symbols_target::hidden_work()");
  EXPECT_EQ(symbols.resolve(at[1], false).module, program);
  EXPECT_TRUE(symbols.missing().empty());
}

TEST(Symbols, WithoutPermissionThereAreAddresses)
{
  if (!is_root()) GTEST_SKIP() << "needs root, to have a process that others may not look at";
  const Faulting target;
  const pid_t other = ::fork();
  if (other == 0) {
    constexpr uid_t kNobody = 65534;
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) ::_exit(2);
    auto symbols = Symbols::open(static_cast<std::uint32_t>(target.child.tgid()));
    if (!symbols) ::_exit(3);
    const std::string sentence = "maps of process " + std::to_string(target.child.tgid()) +
                                 " may not be read (needs CAP_SYS_PTRACE): addresses only";
    if (symbols->missing() != std::vector<std::string>{sentence}) ::_exit(4);
    const Words frames = symbols->unwind(target.stack);
    if (frames.empty() || frames[0] != target.stack.registers[kProgramCounter]) ::_exit(5);
    const Frame frame = symbols->resolve(frames[0], false);
    ::_exit(frame.address == frames[0] && frame.module.empty() && frame.symbol.empty() ? 0 : 6);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Symbols, AProcessMayExitAfterOpen)
{
  Faulting target;
  Symbols symbols = opened(target.child.tgid());
  target.child.end();
  EXPECT_TRUE(leads_through(frames_of(symbols, target.stack), kFaultChain));
  const auto remapped = symbols.remap();
  ASSERT_FALSE(remapped);
  EXPECT_NE(remapped.error().message().find("has exited"), std::string::npos) << remapped.error().message();
  EXPECT_TRUE(leads_through(frames_of(symbols, target.stack), kFaultChain));
}

TEST(Symbols, NoSuchProcessIsAnError)
{
  const Directory empty;
  const auto symbols = Symbols::open(17, empty.path());
  ASSERT_FALSE(symbols);
  EXPECT_NE(symbols.error().message().find("there is no process 17"), std::string::npos);
}

TEST(Symbols, AnExitedProcessWithoutMappingsSaysSo)
{
  const FakeProc proc;
  proc.write("maps", "");
  EXPECT_TRUE(says(proc.open(), "process 17 has no memory of its own"));
}

TEST(Symbols, RemapFindsWhatWasLoadedSince)
{
  Child child([] { Child::exec(kTarget, "wait", kLate); });
  const Words at = child.hear();
  Symbols symbols = opened(child.tgid());
  EXPECT_EQ(symbols.resolve(at[0], false).symbol, "exported_work");
  child.tell();
  const Words late = child.hear();
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(symbols.resolve(late[0], false).symbol, "");
  ASSERT_TRUE(symbols.remap());
  const Frame frame = symbols.resolve(late[0] + 1, false);
  EXPECT_EQ(frame.symbol, "late_work");
  EXPECT_EQ(frame.symbol_offset, 1U);
  EXPECT_TRUE(frame.module.ends_with("/libsymbols_late.so"));
  EXPECT_TRUE(frame.source_file.ends_with("late.cpp")) << frame.source_file;
  EXPECT_GE(frame.source_line, 4);
  EXPECT_LE(frame.source_line, 6);
  EXPECT_EQ(symbols.resolve(at[0], false).symbol, "exported_work");
}

TEST(Symbols, TheVdsoHasItsNames)
{
  void* vdso = ::dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  void* function = nullptr;
  for (const char* name : {"__vdso_clock_gettime", "__kernel_clock_gettime"})
    if (vdso != nullptr && function == nullptr) function = ::dlsym(vdso, name);
  if (function == nullptr) GTEST_SKIP() << "this process has no vdso";
  Symbols symbols = opened(::getpid());
  const Frame frame = symbols.resolve(reinterpret_cast<std::uint64_t>(function), false);
  EXPECT_EQ(frame.module, "[vdso]");
  EXPECT_NE(frame.symbol.find("clock_gettime"), std::string::npos) << frame.symbol;
  EXPECT_TRUE(symbols.missing().empty()) << symbols.missing()[0];
}

TEST(Symbols, DemanglesCppOnly)
{
  EXPECT_EQ(demangled("_ZN14symbols_target12grow_recordsEv"), "symbols_target::grow_records()");
  EXPECT_EQ(demangled("_ZNSt6vectorIiSaIiEE9push_backEOi"), "std::vector<int, std::allocator<int> >::push_back(int&&)");
  EXPECT_EQ(demangled("memcpy"), "memcpy");
  EXPECT_EQ(demangled("main.(*server).run"), "main.(*server).run");
  EXPECT_EQ(demangled("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write::h0123456789abcdef");
  EXPECT_EQ(demangled("_RNvCs1234_7mycrate3foo"), "_RNvCs1234_7mycrate3foo");
  EXPECT_EQ(demangled("_Z"), "_Z");
  EXPECT_EQ(demangled(""), "");
  // Each repeats the one before three times: 3^30 names.
  std::string bomb = "_Z1f1aIiE";
  for (int i = 0; i < 30; ++i) {
    const std::string repeat =
        i < 5 ? "S" + std::to_string(2 * i) + "_" : std::string("S") + static_cast<char>('A' + i % 26) + "_";
    bomb += "1bI" + repeat + repeat + repeat + "E";
  }
  EXPECT_EQ(demangled(bomb), bomb);
  const std::string many = "_Z1f" + std::string(5000, 'i');
  EXPECT_EQ(demangled(many), many);
}

TEST(Symbols, ResolvesFromItsCache)
{
  Child child([] { Child::exec(kTarget, "wait"); });
  const Words at = child.hear();
  Symbols symbols = opened(child.tgid());
  for (std::uint64_t i = 0; i < 100; ++i) symbols.resolve(at[0] + i, false);
  const auto start = std::chrono::steady_clock::now();
  std::size_t named = 0;
  for (std::uint64_t i = 0; i < 10'000; ++i) named += symbols.resolve(at[0] + i % 100, false).module.empty() ? 0 : 1;
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(named, 10'000U);
  EXPECT_LT(took, std::chrono::seconds(2));  // looking them up takes at least half a millisecond each
}

// ---- debug files ----

// The same in both targets.
std::uint64_t hidden_work_vaddr()
{
  Child child([] { Child::exec(kTarget, "wait"); });
  const Words at = child.hear();
  Symbols symbols = opened(child.tgid());
  return symbols.resolve(at[1], false).module_offset;
}

// A maps line of the file's code, loaded at `start`.
std::string code_line(const FakeProc& proc, const std::string& path, std::uint64_t start)
{
  const std::string file = content(proc.at("root" + path));
  Elf64_Ehdr header{};
  std::memcpy(&header, file.data(), sizeof header);
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    std::memcpy(&segment, file.data() + header.e_phoff + static_cast<std::size_t>(i) * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0)
      return proc.maps_line(path, start + (segment.p_vaddr & ~0xfffULL), segment.p_offset & ~0xfffULL);
  }
  return {};
}

TEST(Symbols, UsesADebugFileOfTheSameBuildId)
{
  const FakeProc proc;
  const std::uint64_t hidden = hidden_work_vaddr();
  constexpr std::uint64_t kBias = 0x5500'0000'0000;
  proc.write("root/app/prog", content(kStripped));
  proc.write("maps", code_line(proc, "/app/prog", kBias));
  Symbols without = proc.open();
  EXPECT_EQ(without.resolve(kBias + hidden, false).symbol, "");

  const std::string debug = "root/usr/lib/debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug";
  proc.write(debug, content("/proc/self/exe"));  // another build id
  Symbols wrong = proc.open();
  EXPECT_EQ(wrong.resolve(kBias + hidden, false).symbol, "");

  proc.write(debug, content(kTarget));
  Symbols with = proc.open();
  const Frame frame = with.resolve(kBias + hidden, false);
  EXPECT_EQ(frame.symbol, "symbols_target::hidden_work()");
  EXPECT_EQ(frame.module_offset, hidden);
  EXPECT_TRUE(frame.source_file.ends_with("target.cpp"));
  EXPECT_TRUE(with.missing().empty());
}

// The file with a .gnu_debuglink.
std::string linked_to(std::string file, const std::string& debug_name)
{
  Elf64_Ehdr header{};
  std::memcpy(&header, file.data(), sizeof header);
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  std::memcpy(sections.data(), file.data() + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  Elf64_Shdr& names = sections[header.e_shstrndx];
  std::string table = file.substr(names.sh_offset, names.sh_size);
  Elf64_Shdr link{};
  link.sh_name = static_cast<Elf64_Word>(table.size());
  link.sh_type = SHT_PROGBITS;
  table += std::string(".gnu_debuglink", 15);
  names.sh_offset = file.size();
  names.sh_size = table.size();
  file += table;
  std::string value = debug_name + '\0';
  value.resize((value.size() + 3) / 4 * 4);
  value += std::string(4, '\x11');  // a checksum: the build id decides
  link.sh_offset = file.size();
  link.sh_size = value.size();
  file += value;
  sections.push_back(link);
  header.e_shoff = file.size();
  header.e_shnum = static_cast<Elf64_Half>(sections.size());
  file.append(reinterpret_cast<const char*>(sections.data()), sections.size() * sizeof(Elf64_Shdr));
  std::memcpy(file.data(), &header, sizeof header);
  return file;
}

TEST(Symbols, UsesALinkedDebugFileOfTheSameBuildId)
{
  const std::uint64_t hidden = hidden_work_vaddr();
  constexpr std::uint64_t kBias = 0x5500'0000'0000;
  for (const bool fits : {true, false}) {
    const FakeProc proc;
    proc.write("root/app/prog", linked_to(content(kStripped), "prog.debug"));
    proc.write("root/usr/lib/debug/app/prog.debug", content(fits ? kTarget : "/proc/self/exe"));
    proc.write("maps", code_line(proc, "/app/prog", kBias));
    Symbols symbols = proc.open();
    EXPECT_EQ(symbols.resolve(kBias + hidden, false).symbol, fits ? "symbols_target::hidden_work()" : "");
    EXPECT_EQ(symbols.missing().empty(), fits);
  }
}

TEST(Symbols, TheInodeDecidesWhetherItIsTheFile)
{
  const FakeProc proc;
  const std::uint64_t hidden = hidden_work_vaddr();
  constexpr std::uint64_t kBias = 0x5500'0000'0000;
  proc.write("root/prog", content(kTarget));
  const std::string line = code_line(proc, "/prog", kBias);
  // "... r-xp 00001000 fe:01 1234   /prog"
  const std::size_t device = line.find(':') - 2, inode = line.find(' ', device) + 1, end = line.find(' ', inode);
  const auto symbol_with = [&](const std::string& maps) {
    proc.write("maps", maps);
    Symbols symbols = proc.open();
    const Frame frame = symbols.resolve(kBias + hidden, false);
    EXPECT_EQ(frame.module, "/prog");
    EXPECT_EQ(frame.symbol.empty(), says(symbols, "/prog was replaced: module and offset only"));
    return frame.symbol;
  };
  EXPECT_EQ(symbol_with(line), "symbols_target::hidden_work()");
  // btrfs and overlayfs map by another device than they show.
  EXPECT_EQ(symbol_with(std::string(line).replace(device, 2, "77")), "symbols_target::hidden_work()");
  EXPECT_EQ(symbol_with(std::string(line).replace(inode, end - inode, "17")), "");
}

// ---- what a process may map ----

TEST(Symbols, FilesThatAreNoElfFiles)
{
  const FakeProc proc;
  const std::string target = content(kTarget);
  proc.write("root/empty", "");
  proc.write("root/text", "#!/bin/sh\nexit 17\n");
  proc.write("root/header", target.substr(0, 64));
  proc.write("root/half", target.substr(0, target.size() / 2));
  proc.write("root/zeros", std::string(70000, '\0'));
  fs::create_directories(proc.at("root/directory"));
  ASSERT_EQ(::mkfifo(proc.at("root/pipe").c_str(), 0600), 0);
  fs::create_symlink("/etc/passwd", proc.at("root/link"));
  fs::create_symlink("../../../../../../../../etc/passwd", proc.at("root/up"));
  if (is_root()) {
    ASSERT_EQ(::mknod(proc.at("root/device").c_str(), S_IFCHR | 0600, static_cast<dev_t>(0x105)), 0);  // /dev/zero
  }
  std::string maps = "garbage\n\n-\n10-5 r-xp 0 0:0 0\n";
  const std::vector<std::string> names = {"/empty", "/text", "/header", "/half",   "/zeros", "/directory",
                                          "/pipe",  "/link", "/up",     "/device", "/none",  "/new\\012line"};
  std::uint64_t start = 0x100000;
  for (const std::string& name : names) maps += proc.maps_line(name, start += 0x100000);
  maps += "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
  maps += proc.maps_line("/text", 0x200000);  // again, and out of order
  maps += "7ff000000000-7ff0000";
  proc.write("maps", maps);

  const auto began = std::chrono::steady_clock::now();
  Symbols symbols = proc.open();
  start = 0x100000;
  for (const std::string& name : names) {
    start += 0x100000;
    const Frame frame = symbols.resolve(start + 0x17, false);
    EXPECT_EQ(frame.module, name == "/new\\012line" ? "/new\nline" : name);
    EXPECT_EQ(frame.symbol, "") << name;
    EXPECT_EQ(frame.module_offset, 0x17U) << name;
    StackCopy stack;
    stack.register_count = kRegisters;
    stack.registers[kProgramCounter] = start + 0x17;
    EXPECT_GE(symbols.unwind(stack).size(), 1U);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_EQ(symbols.resolve(0xffffffffff600017, false).module, "[vsyscall]");
  EXPECT_TRUE(says(symbols, "/text is not an ELF file: module and offset only"))
      << ::testing::PrintToString(symbols.missing());
  EXPECT_TRUE(says(symbols, "/empty is not an ELF file"));
  EXPECT_TRUE(says(symbols, "/pipe is not a regular file"));
  EXPECT_TRUE(says(symbols, "/none cannot be opened"));
  EXPECT_FALSE(says(symbols, "/link is not an ELF"));  // our /etc/passwd was not looked at
}

// As readers have it: elfutils believes what files say.
class MemoryLimit {
 public:
  explicit MemoryLimit(rlim_t more_bytes)
  {
    std::ifstream statm("/proc/self/statm");
    rlim_t pages = 0;  // size resident shared text lib data
    for (int field = 0; field < 6; ++field) statm >> pages;
    ::getrlimit(RLIMIT_DATA, &before_);
    const rlimit limit{pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + more_bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_DATA, &limit);
  }
  ~MemoryLimit() { ::setrlimit(RLIMIT_DATA, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(Symbols, DamagedElfFilesDoNoHarm)
{
  const MemoryLimit limit(1U << 30);
  const FakeProc proc;
  const std::string good = content(kStripped);
  const std::string full = content(kTarget);
  std::mt19937_64 random(19);
  const auto began = std::chrono::steady_clock::now();
  for (int round = 0; round < 200; ++round) {
    std::string bad = round % 2 == 0 ? good : full;
    const int changes = 1 << random() % 9;
    for (int i = 0; i < changes; ++i) {
      // Half of them in the headers, at both ends.
      const std::size_t at = random() % 4 == 0   ? random() % 1024
                             : random() % 3 == 0 ? bad.size() - 1 - random() % 4096
                                                 : random() % bad.size();
      bad[at] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    if (round % 10 == 0) bad.resize(random() % bad.size());
    proc.write("root/bad", bad);
    proc.write("maps", proc.maps_line("/bad", 0x400000, (random() % 8) << 12) +
                           proc.maps_line("/bad", 0x500000, 0x1000) + proc.maps_line("/bad", 0x600000, 0x2000));
    Symbols symbols = proc.open();
    for (int i = 0; i < 20; ++i) {
      StackCopy stack;
      stack.register_count = kRegisters;
      for (std::uint64_t& value : stack.registers) value = 0x7fff'0000 + random() % 4096 * 8;
      stack.registers[kStackPointer] = 0x7fff'0000;
      stack.registers[kProgramCounter] = 0x400000 + (random() % 3 << 20) + random() % 0x8000;
      stack.bytes.resize(4096);
      for (std::size_t word = 0; word < 4096; word += 8) {
        const std::uint64_t value = 0x400000 + (random() % 3 << 20) + random() % 0x8000;
        std::memcpy(stack.bytes.data() + word, &value, 8);
      }
      for (const std::uint64_t address : symbols.unwind(stack)) symbols.resolve(address, true);
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(60));
}

TEST(Symbols, AFileThatIsTruncatedWhileItIsReadDoesNoHarm)
{
  const FakeProc proc;
  const std::uint64_t hidden = hidden_work_vaddr();
  constexpr std::uint64_t kBias = 0x5500'0000'0000;
  for (const bool used_before : {false, true}) {
    proc.write("root/prog", content(kTarget));
    proc.write("maps", code_line(proc, "/prog", kBias));
    Symbols symbols = proc.open();
    if (used_before) {
      EXPECT_EQ(symbols.resolve(kBias + hidden, false).symbol, "symbols_target::hidden_work()");
    }
    fs::resize_file(proc.at("root/prog"), 100);
    EXPECT_EQ(symbols.resolve(kBias + hidden + 1, false).module, "/prog");
    StackCopy stack;
    stack.register_count = kRegisters;
    stack.registers[kProgramCounter] = kBias + hidden;
    EXPECT_GE(symbols.unwind(stack).size(), 1U);
  }
}

TEST(Symbols, ThousandsOfMappings)
{
  const FakeProc proc;
  std::string maps;
  proc.write("root/lib0.so", content(kStripped));
  std::uint64_t start = 0x10'0000;
  for (int file = 0; file < 600; ++file) {
    const std::string name = "/lib" + std::to_string(file) + ".so";
    if (file > 0) fs::create_hard_link(proc.at("root/lib0.so"), proc.at("root" + name));
    for (int part = 0; part < 5; ++part, start += 0x10'0000) maps += proc.maps_line(name, start, 0x1000);
  }
  proc.write("maps", maps);
  const std::size_t before = open_descriptors();
  const auto began = std::chrono::steady_clock::now();
  {
    Symbols symbols = proc.open();
    EXPECT_LE(open_descriptors(), before + 520);
    for (std::uint64_t at = 0x10'0000; at < start; at += 0x10'0000)
      EXPECT_FALSE(symbols.resolve(at + 17, false).module.empty());
    EXPECT_LE(open_descriptors(), before + 520);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(symbols.remap());
    EXPECT_TRUE(says(symbols, "more than 512 files are mapped: the last ones with module and offset only"));
    StackCopy stack;
    stack.register_count = kRegisters;
    stack.registers[kProgramCounter] = start - 0x10'0000 + 17;
    EXPECT_GE(symbols.unwind(stack).size(), 1U);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace laggard::identify
