// SPDX-License-Identifier: MIT
// Files of other people, read by processes that have nothing: real ones, and files that are made to harm.
#include "source/live/elf_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sdt.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <chrono>
#include <sstream>

#include "source/live/confinement.h"
#include "support/eventually.h"
#include "symbols/harness.h"

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kWithSanitizer = true;  // its allocator ends the process before it would throw
#else
constexpr bool kWithSanitizer = false;
#endif

namespace laggard::source::live {
namespace {

using identify::Directory;
using identify::FakeProc;
using identify::Faulting;
using testing::HasSubstr;
using testing::IsEmpty;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::unique_ptr<ElfReader> started(std::uint64_t memory_bytes = ElfReader::kMemoryBytes, const std::string& proc = "/proc")
{
  auto reader = ElfReader::start(memory_bytes, proc);
  EXPECT_TRUE(reader) << reader.error().message();
  return std::move(*reader);
}

Fd opened(const std::string& path) { return Fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}; }

// What is found, or why not.
Result<FileFunctions> functions_of(ElfReader& reader, const std::string& path, const std::vector<WantedFunctions>& wanted)
{
  const Fd file = opened(path);
  Result<FileFunctions> result = failure("no answer");
  reader.find_functions(file.get(), wanted, [&](Result<FileFunctions> found) { result = std::move(found); });
  reader.settle(seconds(60));
  EXPECT_TRUE(reader.is_idle());
  return result;
}

std::string work_is_found(ElfReader& reader)
{
  const auto found = functions_of(reader, identify::kTarget, {{{"main"}, {}}});
  return !found ? found.error().message() : found->offsets.at("main").empty() ? "no main" : "";
}

// /proc/PID/status
std::string status_of(pid_t pid, const std::string& field)
{
  std::istringstream status{identify::content("/proc/" + std::to_string(pid) + "/status")};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":"))
      return line.substr(line.find_first_not_of(" \t", field.size() + 1));
  return {};
}

bool has_ended(pid_t pid)
{
  const std::string state = status_of(pid, "State");
  return state.empty() || state.front() == 'Z';  // nobody may wait for orphans here
}

constexpr double kWaitSeconds = 20;

pid_t child_of(pid_t parent)
{
  const std::string number = std::to_string(parent);
  pid_t child = 0;
  std::istringstream{identify::content("/proc/" + number + "/task/" + number + "/children")} >> child;
  return child;
}

// The section headers of a program may say anything.
void change_sections(std::string& program, const std::function<void(Elf64_Shdr&)>& change)
{
  Elf64_Ehdr header{};
  std::memcpy(&header, program.data(), sizeof header);
  for (std::size_t i = 0; i < header.e_shnum; i++) {
    Elf64_Shdr section{};
    const std::size_t at = header.e_shoff + i * sizeof section;
    std::memcpy(&section, program.data() + at, sizeof section);
    change(section);
    std::memcpy(program.data() + at, &section, sizeof section);
  }
}

// 256 MiB of names, which take no room on disk.
void write_endless_names(const std::string& path)
{
  std::string program = identify::content(identify::kTarget);
  change_sections(program, [](Elf64_Shdr& section) {
    if (section.sh_type == SHT_STRTAB && (section.sh_flags & SHF_ALLOC) == 0)
      section.sh_size = 256 << 20;
  });
  std::ofstream(path, std::ios::binary) << program;
  identify::fs::resize_file(path, 300 << 20);
}

// 300 000 functions, in the place of those that it has.
void write_many_functions(const std::string& path)
{
  constexpr std::size_t kCount = 300'000, kNameBytes = 9;
  std::string program = identify::content(identify::kTarget);
  std::string names(1, '\0');
  std::vector<Elf64_Sym> symbols(kCount);
  std::uint64_t code = 0;
  change_sections(program, [&](Elf64_Shdr& section) {
    if ((section.sh_flags & SHF_EXECINSTR) != 0 && section.sh_size > 64)
      code = section.sh_addr;
  });
  for (std::size_t i = 0; i < kCount; i++) {
    symbols[i].st_name = static_cast<Elf64_Word>(names.size());
    symbols[i].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    symbols[i].st_shndx = 1;
    symbols[i].st_value = code + i % 32;
    symbols[i].st_size = 1;
    std::string name = std::to_string(i);
    name.insert(0, kNameBytes - 1 - name.size(), 'f');
    names += name + '\0';
  }
  const std::uint64_t at = program.size();
  Elf64_Word linked = 0, number = 0;
  change_sections(program, [&](Elf64_Shdr& section) {
    if (section.sh_type == SHT_SYMTAB) {
      linked = section.sh_link;
      section.sh_offset = at;
      section.sh_size = kCount * sizeof(Elf64_Sym);
    }
  });
  change_sections(program, [&](Elf64_Shdr& section) {
    if (number++ == linked) {
      section.sh_offset = at + kCount * sizeof(Elf64_Sym);
      section.sh_size = names.size();
    }
  });
  program.append(reinterpret_cast<const char*>(symbols.data()), kCount * sizeof(Elf64_Sym));
  std::ofstream(path, std::ios::binary) << program << names;
}

TEST(ElfReader, FindsWhatATableFinds)
{
  DTRACE_PROBE1(laggard_unit, reader, 17);
  const auto reader = started();
  const auto table = identify::FunctionTable::open(identify::kTarget);
  ASSERT_TRUE(table);
  const auto found = functions_of(*reader, identify::kTarget,
                                  {{{"main", "symbols_target::grow_records"}, {"mian"}}, {{"nothing"}, {"symbols_target::*"}, false}});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->trouble, "");
  for (const std::string name : {"main", "symbols_target::grow_records", "mian", "nothing", "symbols_target::*"}) {
    std::vector<std::uint64_t> offsets;
    for (const identify::Function& function : table->find(name))
      offsets.push_back(function.file_offset);
    EXPECT_EQ(found->offsets.at(name), offsets) << name;
  }
  EXPECT_EQ(found->similar_to.at("mian"), table->similar("mian"));
  EXPECT_FALSE(found->similar_to.contains("nothing"));

  const auto own = functions_of(*reader, "/proc/self/exe", {{{"usdt:laggard_unit:reader"}, {"usdt:laggard_unit:absent"}}});
  ASSERT_TRUE(own) << own.error().message();
  EXPECT_THAT(own->usdts, testing::ElementsAre("usdt:laggard_unit:reader"));
}

TEST(ElfReader, SaysWhatIsWrongWithAFile)
{
  const auto reader = started();
  EXPECT_EQ(functions_of(*reader, "/etc/passwd", {{{"main"}, {}}}).error().message(), "is no ELF file");
  EXPECT_EQ(functions_of(*reader, "/dev/null", {{{"main"}, {}}}).error().message(), "is not a regular file");
  const auto stripped = functions_of(*reader, identify::kStripped, {{{"usdt:a:b"}, {}}});
  ASSERT_TRUE(stripped);
  EXPECT_EQ(stripped->trouble, "");
  EXPECT_EQ(work_is_found(*reader), "");
}

TEST(ElfReader, MemoryEndsTheReaderAndNotUs)
{
  const Directory directory;
  const std::string hostile = directory / "hostile";
  write_endless_names(hostile);
  const auto reader = started(64 << 20);
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  const auto found = functions_of(*reader, hostile, {{{"main"}, {}}});
  ::getrusage(RUSAGE_SELF, &after);
  ASSERT_FALSE(found);
  if (!kWithSanitizer) {
    EXPECT_EQ(found.error().message(), "takes more than 64 MiB of memory to be read");
  }
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16L << 10);  // KiB
  EXPECT_EQ(work_is_found(*reader), "");
}

TEST(ElfReader, NobodyWaitsWhileItReads)
{
  const Directory directory;
  const std::string many = directory / "many";
  write_many_functions(many);
  const auto reader = started();
  const Fd file = opened(many);
  std::optional<Result<FileFunctions>> found;
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  auto longest = Clock::duration{};
  reader->find_functions(file.get(), {{{"ff299999"}, {"a function that it does not have"}}}, [&](Result<FileFunctions> result) { found = std::move(result); });
  while (!found && Clock::now() - begun < seconds(60)) {
    const auto before = Clock::now();
    reader->take();
    longest = std::max(longest, Clock::now() - before);
    pollfd readable{reader->fd(), POLLIN, 0};
    ::poll(&readable, 1, 20);
  }
  const auto took = Clock::now() - begun;
  ASSERT_TRUE(found && *found) << (found ? found->error().message() : "no answer");
  EXPECT_EQ((*found)->offsets.at("ff299999").size(), 1U);
  EXPECT_GT(took, milliseconds(100)) << "too small a file to show anything";
  EXPECT_LT(longest, took / 4);
  EXPECT_LT(longest, milliseconds(50));
}

TEST(ElfReader, HasNoCapabilityAndOneFilter)
{
  const Directory directory;
  const std::string many = directory / "many";
  write_many_functions(many);
  const auto reader = started();
  const Fd file = opened(many);
  std::string error = "no answer";
  reader->find_functions(file.get(), {{{"nothing"}, {}}}, [&](const Result<FileFunctions>& found) { error = found ? "" : found.error().message(); });
  reader->take();
  pid_t process = 0;
  ASSERT_TRUE(test::eventually([&] { return (process = child_of(reader->starter())) > 0 && status_of(process, "Seccomp_filters") == "2"; }, kWaitSeconds));
  for (const pid_t pid : {process, reader->starter()}) {
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
      EXPECT_EQ(status_of(pid, set), "0000000000000000") << set;
    EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
    EXPECT_EQ(status_of(pid, "Seccomp"), "2");
    EXPECT_THAT(identify::content("/proc/" + std::to_string(pid) + "/limits"), HasSubstr("Max core file size        0                    0"));
    if (identify::is_root()) {
      EXPECT_THAT(status_of(pid, "Uid"), HasSubstr("65534"));
    }
  }
  // Killed by somebody else: the reason is said, and the next task has another reader.
  ASSERT_EQ(::kill(process, SIGKILL), 0);
  reader->settle(seconds(10));
  EXPECT_EQ(error, "cannot be read: it ends the process that reads it (Killed)");
  EXPECT_EQ(work_is_found(*reader), "");
}

TEST(ElfReader, MayOpenNothingAndStartNothing)
{
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    const int before = ::open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (!confine_reader(self, 5))
      ::_exit(100);
    char byte = 0;
    const bool may_read = ::read(before, &byte, 1) == 1;
    int wrong = may_read ? 0 : 1;
    const auto refused = [&wrong](long result, int number) { wrong = wrong == 0 && !(result < 0 && errno == EPERM) ? number : wrong; };
    refused(::open("/etc/passwd", O_RDONLY), 2);
    refused(::syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", nullptr, 0), 3);
    refused(::socket(AF_INET, SOCK_STREAM, 0), 4);
    refused(::syscall(SYS_bpf, 0, nullptr, 0), 5);
    refused(::fork(), 6);
    refused(::kill(self, 0), 7);
    refused(::execl("/bin/true", "true", nullptr), 8);
    refused(::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0, 9);
    refused(::fcntl(before, F_SETOWN, self), 10);
    refused(::syscall(SYS_ptrace, 0, 0, 0, 0), 11);
    refused(::unlink("/nowhere"), 12);
    void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    refused(memory == MAP_FAILED ? 0 : ::mprotect(memory, 4096, PROT_READ | PROT_EXEC), 13);
    ::_exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << ::strsignal(WTERMSIG(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "which call is not refused";
}

TEST(ElfReader, EndsWithWhoStartedIt)
{
  const Directory directory;
  const std::string many = directory / "many";
  write_many_functions(many);
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const pid_t laggard = ::fork();
  if (laggard == 0) {
    const auto reader = started();
    const Fd file = opened(many);
    reader->find_functions(file.get(), {{{"nothing"}, {}}}, [](const Result<FileFunctions>&) {});
    reader->take();
    pid_t pids[] = {reader->starter(), 0};
    test::eventually([&] { return (pids[1] = child_of(pids[0])) > 0; }, kWaitSeconds);
    if (::write(pipe[1], pids, sizeof pids) == sizeof pids)
      ::pause();
    ::_exit(1);
  }
  pid_t pids[2] = {};
  ASSERT_EQ(::read(pipe[0], pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
  ASSERT_GT(pids[1], 0);
  ::kill(laggard, SIGKILL);
  ::waitpid(laggard, nullptr, 0);
  for (const pid_t pid : pids)
    EXPECT_TRUE(test::eventually([pid] { return has_ended(pid); }, kWaitSeconds));
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(ElfReader, NamesAStackAsSymbolsDo)
{
  const Faulting target;
  identify::Symbols symbols = identify::opened(target.child.tgid());
  const auto addresses = symbols.unwind(target.stack);
  const auto reader = started();
  Result<std::vector<identify::Frame>> names = failure("no answer");
  reader->name(static_cast<std::uint32_t>(target.child.tgid()), addresses, [&](Result<std::vector<identify::Frame>> found) { names = std::move(found); });
  reader->settle(seconds(60));
  ASSERT_TRUE(names) << names.error().message();
  ASSERT_EQ(names->size(), addresses.size());
  for (std::size_t i = 0; i < addresses.size(); i++) {
    const identify::Frame wanted = symbols.resolve(addresses[i], i > 0);
    const identify::Frame& frame = (*names)[i];
    EXPECT_EQ(frame.symbol, wanted.symbol);
    EXPECT_EQ(frame.symbol_offset, wanted.symbol_offset);
    EXPECT_EQ(frame.module, wanted.module);
    EXPECT_EQ(frame.module_offset, wanted.module_offset);
    EXPECT_EQ(frame.source_file, wanted.source_file);
    EXPECT_EQ(frame.source_line, wanted.source_line);
  }
}

TEST(ElfReader, UnwindsForWhoWaits)
{
  const Faulting target;
  const auto reader = started();
  auto symbols = ElfSymbols::open(*reader, static_cast<std::uint32_t>(target.child.tgid()));
  ASSERT_TRUE(symbols) << symbols.error().message();
  std::vector<identify::Frame> frames;
  for (const std::uint64_t address : symbols->unwind(target.stack))
    frames.push_back(symbols->resolve(address, !frames.empty()));
  EXPECT_TRUE(identify::leads_through(frames, identify::kFaultChain));
  EXPECT_TRUE(symbols->remap());
  const auto nobody = ElfSymbols::open(*reader, 0x7fffffff);
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.error().message(), HasSubstr("there is no process 2147483647"));
}

// The code of a file in a made-up process, mapped at kBias.
constexpr std::uint64_t kBias = 0x5500'0000'0000;
std::string code_line(const FakeProc& proc, const std::string& path)
{
  const std::string file = identify::content(proc.at("root" + path));
  Elf64_Ehdr header{};
  std::memcpy(&header, file.data(), sizeof header);
  for (std::size_t i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment{};
    std::memcpy(&segment, file.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0)
      return proc.maps_line(path, kBias + (segment.p_vaddr & ~0xfffULL), segment.p_offset & ~0xfffULL);
  }
  return {};
}

std::uint64_t hidden_work_vaddr()
{
  identify::Child child([] { identify::Child::exec(identify::kTarget, "wait"); });
  const identify::Words at = child.hear();
  return identify::opened(child.tgid()).resolve(at[1], false).module_offset;
}

TEST(ElfReader, ReadsDebugFilesThatAreOpenedForIt)
{
  const FakeProc proc;
  const std::uint64_t hidden = hidden_work_vaddr();
  proc.write("root/app/prog", identify::content(identify::kStripped));
  proc.write("maps", code_line(proc, "/app/prog"));
  proc.write("root/usr/lib/debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug", identify::content(identify::kTarget));
  const auto reader = started(ElfReader::kMemoryBytes, proc.path());
  std::string symbol;
  reader->name(17, {kBias + hidden}, [&](const Result<std::vector<identify::Frame>>& names) {
    symbol = names && !names->empty() ? names->front().symbol : "";
  });
  reader->settle(seconds(60));
  EXPECT_EQ(symbol, "symbols_target::hidden_work()");
}

// def_cfa rsp+8, offset rip-8: becomes a rule for a register so large that all below it take libdw 2 GB.
TEST(ElfReader, UnwindTablesDoNotTakeTheMemory)
{
  const FakeProc proc;
  const std::uint64_t hidden = hidden_work_vaddr();
  std::string program = identify::content(identify::kTarget);
  std::size_t changed = 0;
  for (std::size_t at = 0; (at = program.find("\x0c\x07\x08\x90\x01", at)) != std::string::npos; ++changed)
    program.replace(at, 5, "\x07\xfe\xff\xff\x7f");
  if (changed == 0)
    GTEST_SKIP() << "compilers write other tables for this machine";
  proc.write("root/prog", program);
  proc.write("maps", code_line(proc, "/prog"));
  const auto reader = started(256 << 20, proc.path());
  auto symbols = ElfSymbols::open(*reader, 17);
  ASSERT_TRUE(symbols) << symbols.error().message();
  identify::StackCopy stack;
  stack.register_count = identify::kRegisters;
  stack.registers[identify::kProgramCounter] = kBias + hidden;
  stack.registers[identify::kStackPointer] = 0x7000'0000;
  stack.bytes.resize(64);
  const auto addresses = symbols->unwind(stack);
  if (kWithSanitizer)
    return;
  EXPECT_EQ(addresses, identify::Words{kBias + hidden});
  EXPECT_EQ(symbols->resolve(kBias + hidden, false).symbol, "symbols_target::hidden_work()");
}

// A reader that was taken over may ask for anything.
TEST(ElfReader, GetsOnlyWhatIsCodeAndItsDebugFiles)
{
  const FakeProc proc;
  proc.write("root/app/prog", identify::content(identify::kTarget));
  proc.write("root/app/secret", "secret");
  std::string core = identify::content(identify::kTarget).substr(0, 4096);
  core[16] = ET_CORE;
  proc.write("root/app/core", core);
  proc.write("root/app/prog.debug", identify::content(identify::kTarget));
  proc.write("root/var/other", identify::content(identify::kTarget));
  const std::string code = code_line(proc, "/app/prog");
  const std::string data = proc.maps_line("/app/secret", kBias + (16 << 20));
  proc.write("maps", code + std::string(data).replace(data.find("r-xp"), 4, "r--p"));
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const Fd ours{ends[0]}, its{ends[1]};
  auto files = ElfFiles::open(17, proc.path(), 1 << 20);
  ASSERT_TRUE(files);
  const auto gets = [&](ElfMessage what, const std::string& about) {
    EXPECT_TRUE(files->answer(ours.get(), {what, about, {}}));
    const auto reply = receive(its.get(), false);
    EXPECT_TRUE(reply && *reply);
    return (*reply)->files.size();
  };
  const auto mapped = [&](std::uint64_t start) { return gets(ElfMessage::Mapped, Packer{}.add(start).bytes()); };
  const auto named = [&](const std::string& path) { return gets(ElfMessage::Named, Packer{}.add(path).bytes()); };
  EXPECT_EQ(gets(ElfMessage::Maps, ""), 1U);
  EXPECT_EQ(mapped(std::stoull(code, nullptr, 16)), 1U);
  EXPECT_EQ(mapped(kBias + (16 << 20)), 0U) << "data";
  EXPECT_EQ(mapped(0x1000), 0U);
  EXPECT_EQ(named("/app/prog.debug"), 1U);
  EXPECT_EQ(named("/app/secret"), 0U) << "no ELF file";
  EXPECT_EQ(named("/app/core"), 0U) << "full of secrets";
  EXPECT_EQ(named("/var/other"), 0U) << "not beside what is mapped";
  EXPECT_EQ(named("/usr/lib/debug/../../../var/other"), 0U);
  EXPECT_EQ(gets(ElfMessage::Memory, Packer{}.add(std::stoull(code, nullptr, 16)).bytes()), 0U);
  EXPECT_EQ(gets(ElfMessage::Named, "short"), 0U);
  EXPECT_FALSE(files->answer(ours.get(), {ElfMessage::Begin, "", {}}));
}

TEST(ElfReader, MessagesOfAnySizeComeWhole)
{
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const Fd ours{ends[0]};
  Fd its{ends[1]};
  const Fd file = opened("/etc/passwd");
  const std::vector<int> sent = {file.get()};
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{64 << 10}, std::size_t{(64 << 10) + 1}, std::size_t{5 << 20}}) {
    const std::string bytes(size, 'x');
    ASSERT_TRUE(send(ours.get(), ElfMessage::Answer, bytes, sent)) << size;
    const auto packet = receive(its.get(), true);
    ASSERT_TRUE(packet && *packet) << size;
    EXPECT_EQ((*packet)->bytes, bytes);
    EXPECT_EQ((*packet)->files.size(), 1U);
  }
  EXPECT_FALSE(*receive(its.get(), false));
  its.reset();
  EXPECT_FALSE(receive(ours.get(), true));
  Unpacker cut{std::string_view("\x09\0\0\0\0\0\0\0nine", 12)};
  EXPECT_EQ(cut.text(), "");
  EXPECT_FALSE(cut.is_whole());
  int rounds = 0;
  Unpacker liar{std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff", 8)};
  liar.each([&] {
    rounds++;
    liar.take<std::uint64_t>();
  });
  EXPECT_EQ(rounds, 1);
}

}  // namespace
}  // namespace laggard::source::live
