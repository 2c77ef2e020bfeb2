// SPDX-License-Identifier: MIT
// Processes for tests/unit/symbols_test.cpp to look at. target.cpp is built twice:
//   symbols_target           -O2 -g -fomit-frame-pointer -fno-inline -fno-optimize-sibling-calls -rdynamic
//                            -Wl,--build-id=0x0123456789abcdef0123456789abcdef01234567
//   symbols_target_stripped  the same with -s, so that the first is its debug file
//   libsymbols_late.so       late.cpp, -gdwarf-4
// All in LAGGARD_BINARY_DIR.
#pragma once

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/fd.h"
#include "identify/symbols.h"

namespace laggard::identify {

namespace fs = std::filesystem;
using Words = std::vector<std::uint64_t>;

inline const std::string kBuilt = LAGGARD_BINARY_DIR;
inline const std::string kTarget = kBuilt + "/symbols_target";
inline const std::string kStripped = kBuilt + "/symbols_target_stripped";
inline const std::string kLate = kBuilt + "/libsymbols_late.so";
constexpr std::size_t kStackBytes = 16U << 10;

#if defined(__x86_64__)
constexpr std::size_t kProgramCounter = 16, kFramePointer = 6, kRegisters = 17;
#else
constexpr std::size_t kProgramCounter = 32, kFramePointer = 29, kRegisters = 33;
#endif

class Directory {
 public:
  Directory()
  {
    std::string name = (fs::temp_directory_path() / "laggard-symbols-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Directory() { fs::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A process of ours; ends with its object.
class Child {
 public:
  template <class Body>
  explicit Child(Body body)
  {
    int in[2], out[2];
    EXPECT_EQ(::pipe(in), 0);
    EXPECT_EQ(::pipe(out), 0);
    tgid_ = ::fork();
    if (tgid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::close(in[1]);
      ::close(out[0]);
      body();
      ::_exit(9);
    }
    ::close(in[0]);
    ::close(out[1]);
    in_ = Fd(in[1]);
    out_ = Fd(out[0]);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  static void exec(const std::string& program, const char* mode, const std::string& argument = {})
  {
    ::execl(program.c_str(), program.c_str(), mode, argument.empty() ? nullptr : argument.c_str(), nullptr);
    ::_exit(8);
  }
  void end()
  {
    if (tgid_ > 0) {
      ::kill(tgid_, SIGKILL);
      ::waitpid(tgid_, nullptr, 0);
    }
    tgid_ = 0;
  }
  void tell() { EXPECT_EQ(::write(in_.get(), "x", 1), 1); }
  // A line of addresses.
  Words hear()
  {
    std::string line;
    for (char c = 0; ::read(out_.get(), &c, 1) == 1 && c != '\n';) line += c;
    Words words;
    std::istringstream stream(line);
    for (std::string word; stream >> word;) words.push_back(std::stoull(word, nullptr, 16));
    return words;
  }
  pid_t tgid() const { return tgid_; }

 private:
  pid_t tgid_ = 0;
  Fd in_, out_;
};

inline Bytes read_memory(pid_t tgid, std::uint64_t from, std::size_t at_most)
{
  Bytes bytes(at_most);
  const iovec local{bytes.data(), bytes.size()};
  // Page by page: the stack ends somewhere.
  std::vector<iovec> remote;
  for (std::size_t at = 0; at < at_most;) {
    const std::size_t n = std::min<std::size_t>(at_most - at, 4096 - (from + at) % 4096);
    remote.push_back({reinterpret_cast<void*>(from + at), n});
    at += n;
  }
  const ssize_t n = ::process_vm_readv(tgid, &local, 1, remote.data(), remote.size(), 0);
  bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return bytes;
}

inline StackCopy copy_of(pid_t traced)
{
  StackCopy stack;
  stack.register_count = kRegisters;
#if defined(__x86_64__)
  user_regs_struct r{};
  iovec io{&r, sizeof r};
  EXPECT_EQ(::ptrace(PTRACE_GETREGSET, traced, NT_PRSTATUS, &io), 0);
  stack.registers = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
                     r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
#else
  iovec io{stack.registers.data(), sizeof stack.registers};
  EXPECT_EQ(::ptrace(PTRACE_GETREGSET, traced, NT_PRSTATUS, &io), 0);
#endif
  stack.bytes = read_memory(traced, stack.registers[kStackPointer], kStackBytes);
  return stack;
}

// A target that stands at its page fault.
struct Faulting {
  explicit Faulting(const std::string& program = kTarget)
      : child([&] {
          ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
          Child::exec(program, "fault");
        })
  {
    int status = 0;
    while (::waitpid(child.tgid(), &status, 0) == child.tgid() && WIFSTOPPED(status) && WSTOPSIG(status) != SIGSEGV)
      ::ptrace(PTRACE_CONT, child.tgid(), nullptr, nullptr);
    EXPECT_TRUE(WIFSTOPPED(status)) << "is " << program << " built?";
    stack = copy_of(child.tgid());
  }
  Child child;
  StackCopy stack;
};

inline Symbols opened(pid_t tgid, const std::string& proc = "/proc")
{
  auto symbols = Symbols::open(static_cast<std::uint32_t>(tgid), proc);
  EXPECT_TRUE(symbols) << symbols.error().message();
  return std::move(*symbols);
}

inline std::vector<Frame> frames_of(Symbols& symbols, const StackCopy& stack)
{
  std::vector<Frame> frames;
  for (const std::uint64_t address : symbols.unwind(stack)) frames.push_back(symbols.resolve(address, !frames.empty()));
  return frames;
}

inline std::string listing(const std::vector<Frame>& frames)
{
  std::ostringstream out;
  for (const Frame& f : frames)
    out << std::hex << f.address << ' ' << f.symbol << " (" << f.module << "+" << f.module_offset << ") "
        << f.source_file << ':' << std::dec << f.source_line << '\n';
  return out.str();
}

// Whether frames with these beginnings of names come in this order, maybe with others between.
inline ::testing::AssertionResult leads_through(const std::vector<Frame>& frames, const std::vector<std::string>& names)
{
  auto frame = frames.begin();
  for (const std::string& name : names) {
    frame = std::find_if(frame, frames.end(), [&](const Frame& f) { return f.symbol.starts_with(name); });
    if (frame == frames.end())
      return ::testing::AssertionFailure() << name << " is not where it should be in\n" << listing(frames);
    ++frame;
  }
  return ::testing::AssertionSuccess();
}

inline bool says(const Symbols& symbols, const std::string& part)
{
  const auto& missing = symbols.missing();
  return std::any_of(missing.begin(), missing.end(),
                     [&](const std::string& s) { return s.find(part) != std::string::npos; });
}

inline const std::vector<std::string> kFaultChain = {"symbols_target::Record::Record(symbols_target::Record const&)",
                                                     "std::vector<symbols_target::Record",
                                                     "symbols_target::grow_records()",
                                                     "symbols_target::compare_records(void const*, void const*)",
                                                     "qsort",
                                                     "symbols_target::sort_records()",
                                                     "main"};

// What /proc/TGID would be, with only what a test puts there.
class FakeProc {
 public:
  explicit FakeProc(std::uint32_t tgid = 17) : tgid_(tgid) { fs::create_directories(at("root")); }
  // The real one's entries, without those left out.
  FakeProc(pid_t real, const std::vector<std::string>& entries) : tgid_(static_cast<std::uint32_t>(real))
  {
    fs::create_directories(at(""));
    for (const std::string& entry : entries)
      fs::create_symlink("/proc/" + std::to_string(real) + "/" + entry, at(entry));
  }
  std::string at(const std::string& name) const { return directory_ / (std::to_string(tgid_) + "/" + name); }
  void write(const std::string& name, const std::string& bytes) const
  {
    fs::create_directories(fs::path(at(name)).parent_path());
    std::ofstream(at(name), std::ios::binary) << bytes;
  }
  // A line that maps all of a file in root, executable.
  std::string maps_line(const std::string& path, std::uint64_t start, std::uint64_t offset = 0) const
  {
    struct stat status {};
    ::stat(at("root" + path).c_str(), &status);
    char line[512];
    std::snprintf(line, sizeof line, "%lx-%lx r-xp %08lx %02x:%02x %lu                  %s\n", start, start + 0x10000,
                  offset, static_cast<unsigned>(status.st_dev >> 8 & 0xfff),
                  static_cast<unsigned>(status.st_dev & 0xff), status.st_ino, path.c_str());
    return line;
  }
  Symbols open() const { return opened(static_cast<pid_t>(tgid_), directory_.path()); }
  const std::string& path() const { return directory_.path(); }

 private:
  Directory directory_;
  std::uint32_t tgid_;
};

inline std::string content(const std::string& path)
{
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::size_t open_descriptors()
{
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{}));
}

inline bool is_root() { return ::geteuid() == 0; }

}  // namespace laggard::identify
