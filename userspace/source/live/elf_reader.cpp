// SPDX-License-Identifier: MIT
#include "source/live/elf_reader.h"

#include <elf.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "identify/clock.h"
#include "source/live/elf_worker.h"
#include "source/live/memory_limit.h"

namespace laggard::source::live {
namespace {

using identify::Mapping;

constexpr std::uint32_t kCpuSeconds = 10, kSeconds = 30;       // of a task: Chromium's functions take 2
constexpr std::uint32_t kCpuSecondsOfProcess = 120;            // of all its files, for one who waits for them
constexpr std::size_t kMostBytesOfMaps = 4 << 20;              // 40 000 mappings: 40 ms of the loop's time
constexpr std::size_t kMostBytesOfMapsWaited = 64 << 20;       // vm.max_map_count is 65530
constexpr int kMostQuestions = 64;  // of a reader, before there is something else to do
// Names are worth a tenth of a core at most, and so are files that end who reads them: over half a minute, for a finding that has
// just opened does not want to wait behind the names of three others.
constexpr int kPause = 10;
constexpr Duration kPausesPutOff = std::chrono::seconds(30);

std::string describe(const ElfPacket& ended, std::uint64_t memory_bytes)
{
  Unpacker how{ended.bytes};
  const int status = how.take<int>();
  const bool is_late = how.take<bool>();
  if (WIFEXITED(status) && WEXITSTATUS(status) == kOutOfMemory)
    return fmt::format("takes more than {} MiB of memory to be read", memory_bytes >> 20);
  if (is_late || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU))
    return "takes too long to be read";
  if (WIFSIGNALED(status))
    return fmt::format("cannot be read: it ends the process that reads it ({})", ::strsignal(WTERMSIG(status)));
  return "cannot be read: the process that reads it has ended";
}

// Or is it an error? What follows is taken by who asked.
Result<void> take_verdict(Unpacker& answer)
{
  if (answer.take<bool>())
    return {};
  std::string context = answer.text();
  const int code = answer.take<int>();
  if (!answer.is_whole())
    return failure("cannot be read: its reader sends what is no message");
  return code != 0 ? errno_failure(std::move(context), code) : failure(std::move(context));
}

// A program or a library. Core files are of the same kind, and full of secrets.
bool is_linked_elf(const Fd& file)
{
  std::array<char, EI_NIDENT + sizeof(Elf64_Half)> start{};
  if (::pread(file.get(), start.data(), start.size(), 0) != static_cast<ssize_t>(start.size()))
    return false;
  Elf64_Half type = 0;
  std::memcpy(&type, start.data() + EI_NIDENT, sizeof type);
  return std::memcmp(start.data(), ELFMAG, SELFMAG) == 0 && (type == ET_EXEC || type == ET_DYN);
}

std::string_view folder_of(std::string_view path) { return path.substr(0, path.rfind('/')); }

}  // namespace

// ---- files ----

Result<ElfFiles> ElfFiles::open(std::uint32_t tgid, const std::string& proc, std::size_t most_bytes_of_maps)
{
  auto directory = identify::ProcessDirectory::open(tgid, proc);
  if (!directory)
    return tl::make_unexpected(directory.error());
  return ElfFiles{std::move(*directory), most_bytes_of_maps};
}

const Mapping* ElfFiles::code_at(std::uint64_t start) const
{
  const auto found = std::ranges::lower_bound(maps_, start, {}, &Mapping::start);
  return found != maps_.end() && found->start == start && found->is_executable ? &*found : nullptr;
}

// Where a debug file of what is mapped may be: a reader that was taken over gets no other.
bool ElfFiles::may_name(const std::string& path) const
{
  if (path.find("/../") != std::string::npos)
    return false;
  if (path.starts_with("/usr/lib/debug/"))
    return true;
  std::string_view folder = folder_of(path);
  if (folder.ends_with("/.debug"))
    folder = folder_of(folder);
  return std::ranges::any_of(maps_, [folder](const Mapping& mapping) {
    return mapping.is_executable && mapping.name.starts_with('/') && folder_of(mapping.name) == folder;
  });
}

Result<void> ElfFiles::answer(int socket, const ElfPacket& question)
{
  Unpacker about{question.bytes};
  Packer reply;
  std::vector<Fd> files;
  switch (question.kind) {
    case ElfMessage::Maps: {
      auto file = directory_.open_maps();
      const auto ours = directory_.open_maps();
      auto maps = file && ours ? identify::read_maps(*ours, most_bytes_) : tl::make_unexpected(file ? ours.error() : file.error());
      if (maps) {
        maps_ = std::move(*maps);
        files.push_back(std::move(*file));
      } else {
        reply.add(maps.error().code.value());
      }
      break;
    }
    case ElfMessage::Mapped: {
      const Mapping* mapping = code_at(about.take<std::uint64_t>());
      auto file = mapping != nullptr && mapping->name.starts_with('/') ? directory_.open_mapped(*mapping) : failure("is not mapped any more");
      if (file)
        files.push_back(std::move(*file));
      else
        reply.add(file.error().message());
      break;
    }
    case ElfMessage::Memory:
      if (const Mapping* mapping = code_at(about.take<std::uint64_t>()); mapping != nullptr && mapping->name == "[vdso]") {
        const std::vector<char> bytes = directory_.read_memory(*mapping);
        return send(socket, ElfMessage::Reply, {bytes.data(), bytes.size()}, {}, false);
      }
      break;
    case ElfMessage::Named:
      if (const std::string path = about.text(); may_name(path))
        files = directory_.open_named(path);
      std::erase_if(files, [](const Fd& file) { return !is_linked_elf(file); });
      break;
    default: return failure("cannot be read: its reader asks for what there is not");
  }
  std::vector<int> numbers;
  for (const Fd& file : files)
    numbers.push_back(file.get());
  return send(socket, ElfMessage::Reply, reply.bytes(), numbers, false);
}

Result<std::optional<std::string>> ElfTask::take(bool waits, std::uint64_t memory_bytes)
{
  for (int i = 0; waits || i < kMostQuestions; i++) {
    auto packet = receive(socket.get(), waits);
    if (!packet)
      return failure("cannot be read: " + packet.error().message());
    if (!*packet)
      return std::optional<std::string>{};
    if ((*packet)->kind == ElfMessage::Answer)
      return std::optional{std::move((*packet)->bytes)};
    if ((*packet)->kind == ElfMessage::Ended)
      return failure(describe(**packet, memory_bytes));
    if (!files)
      return failure("cannot be read: its reader asks for what there is not");
    // Who has just ended is not there for an answer: why, comes next.
    (void)files->answer(socket.get(), **packet);
  }
  return std::optional<std::string>{};
}

// ---- the starter ----

Result<std::unique_ptr<ElfReader>> ElfReader::start(std::uint64_t memory_bytes, const std::string& proc)
{
  std::unique_ptr<ElfReader> reader{new ElfReader};
  const std::uint64_t limit = memory_room_of(static_cast<std::uint32_t>(::getpid())).limit_bytes;
  reader->memory_bytes_ = limit > 0 ? std::min(memory_bytes, limit / 2) : memory_bytes;
  reader->proc_ = proc;
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return errno_failure("cannot make a pair of sockets");
  reader->control_.reset(ends[0]);
  const Fd other{ends[1]};
  reader->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!reader->epoll_)
    return errno_failure("cannot wait for who reads ELF files");
  const pid_t self = ::getpid();
  reader->starter_ = ::fork();
  if (reader->starter_ < 0)
    return errno_failure("cannot start who reads ELF files");
  if (reader->starter_ == 0)
    start_readers(other.get(), self, reader->memory_bytes_);
  const auto confined = receive(reader->control_.get(), true);
  if (!confined || !*confined || !(*confined)->bytes.empty())
    return failure(fmt::format("the process that reads ELF files cannot be confined: {}", confined && *confined ? (*confined)->bytes : "it ended"));
  return reader;
}

ElfReader::~ElfReader()
{
  running_.reset();
  control_.reset();  // the starter sees that, and ends its reader and itself
  if (starter_ > 0)
    while (::waitpid(starter_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

Result<ElfTask> ElfReader::begin(std::uint32_t cpu_seconds, std::uint32_t seconds)
{
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return errno_failure("cannot be read: no sockets");
  ElfTask task{Fd{ends[0]}, {}};
  const Fd other{ends[1]};
  const std::array<int, 1> sent = {other.get()};
  if (auto done = send(control_.get(), ElfMessage::Begin, Packer{}.add(cpu_seconds).add(seconds).bytes(), sent, false); !done)
    return failure("cannot be read: the process that reads ELF files has ended");
  return task;
}

// ---- one task after the other ----

void ElfReader::find_functions(int file, const std::vector<WantedFunctions>& wanted, FunctionsDone done)
{
  Packer request;
  request.each(wanted, [&](const WantedFunctions& one) {
    const auto add = [&](const std::string& name) { request.add(name); };
    request.add(one.is_meant).each(one.begins, add).each(one.others, add);
  });
  tasks_.push_back({Kind::Functions, 0, file, request.bytes(), [done = std::move(done)](Result<std::string> answer) {
    if (!answer)
      return done(tl::make_unexpected(answer.error()));
    Unpacker from{*answer};
    if (auto verdict = take_verdict(from); !verdict)
      return done(tl::make_unexpected(verdict.error()));
    FileFunctions functions;
    functions.trouble = from.text();
    functions.convention = from.take<std::uint8_t>() == 0 ? identify::CallingConvention::SystemV : identify::CallingConvention::Go;
    from.each([&] {
      auto& offsets = functions.offsets[from.text()];
      from.each([&] { offsets.push_back(from.take<std::uint64_t>()); });
    });
    from.each([&] {
      auto& names = functions.similar_to[from.text()];
      from.each([&] { names.push_back(from.text()); });
    });
    from.each([&] { functions.usdts.insert(from.text()); });
    done(from.is_whole() ? Result<FileFunctions>{std::move(functions)} : failure("cannot be read: its reader sends what is no message"));
  }});
}

void ElfReader::name(std::uint32_t tgid, const std::vector<std::uint64_t>& addresses, NamesDone done)
{
  Packer request;
  request.add(tgid).each(addresses, [&](std::uint64_t address) { request.add(address); });
  tasks_.push_back({Kind::Names, tgid, -1, request.bytes(), [done = std::move(done)](Result<std::string> answer) {
    if (!answer)
      return done(tl::make_unexpected(answer.error()));
    Unpacker from{*answer};
    if (auto verdict = take_verdict(from); !verdict)
      return done(tl::make_unexpected(verdict.error()));
    std::vector<identify::Frame> frames;
    from.each([&] { frames.push_back(take_frame(from)); });
    done(from.is_whole() ? Result<std::vector<identify::Frame>>{std::move(frames)}
                         : failure("cannot be read: its reader sends what is no message"));
  }});
}

// False: there is nothing to do by now.
bool ElfReader::start_next()
{
  begun_ = identify::monotonic_now();
  const auto next = std::ranges::find_if(tasks_, [this](const Task& task) { return pauses_until_[task.kind] - begun_ <= kPausesPutOff; });
  if (next == tasks_.end())
    return false;
  std::rotate(tasks_.begin(), next, next + 1);
  const Task& task = tasks_.front();
  auto begun = begin(kCpuSeconds, kSeconds);
  if (begun && task.kind == Kind::Names) {
    auto files = ElfFiles::open(task.tgid, proc_, kMostBytesOfMaps);
    if (files)
      begun->files = std::move(*files);
    else
      begun = tl::make_unexpected(files.error());
  }
  if (begun) {
    const auto what = task.kind == Kind::Names ? ElfMessage::Names : ElfMessage::Functions;
    const std::array<int, 1> file = {task.file};
    const auto sent = send(begun->socket.get(), what, task.request, std::span(file).first(task.file >= 0 ? 1 : 0), false);
    epoll_event readable{.events = EPOLLIN, .data = {.fd = begun->socket.get()}};
    if (!sent)
      begun = tl::make_unexpected(sent.error());
    else if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, begun->socket.get(), &readable) != 0)
      begun = errno_failure("cannot be read");
  }
  if (begun)
    running_ = std::move(*begun);
  else
    finish(tl::make_unexpected(begun.error()));
  return true;
}

void ElfReader::finish(Result<std::string> answer)
{
  running_.reset();
  const Task task = std::move(tasks_.front());
  tasks_.pop_front();
  const MonoTime now = identify::monotonic_now();
  if (!answer || task.kind == Kind::Names)
    pauses_until_[task.kind] = std::max(pauses_until_[task.kind], now) + (now - begun_) * kPause;
  task.done(std::move(answer));  // which may ask for more
}

void ElfReader::take()
{
  while (running_ || start_next()) {
    if (!running_)
      continue;
    auto answer = running_->take(false, memory_bytes_);
    if (answer && !*answer)
      return;
    finish(answer ? Result<std::string>{std::move(**answer)} : tl::make_unexpected(answer.error()));
  }
}

void ElfReader::settle(Duration at_most)
{
  const MonoTime end = identify::monotonic_now() + at_most;
  for (take(); !is_idle() && identify::monotonic_now() < end; take()) {
    pollfd readable{epoll_.get(), POLLIN, 0};
    ::poll(&readable, 1, 50);  // who pauses does not announce it
  }
}

// ---- a process, by who waits ----

Result<ElfSymbols> ElfSymbols::open(ElfReader& reader, std::uint32_t tgid)
{
  auto files = ElfFiles::open(tgid, reader.proc(), kMostBytesOfMapsWaited);
  if (!files)
    return tl::make_unexpected(files.error());
  auto task = reader.begin(kCpuSecondsOfProcess, 0);
  if (!task)
    return tl::make_unexpected(task.error());
  task->files = std::move(*files);
  ElfSymbols symbols{std::move(*task), reader.memory_bytes()};
  const auto opened = symbols.ask(ElfMessage::Open, Packer{}.add(tgid).bytes());
  if (!opened)
    return tl::make_unexpected(opened.error());
  Unpacker from{*opened};
  if (auto verdict = take_verdict(from); !verdict)
    return tl::make_unexpected(verdict.error());
  symbols.keep_missing(from);
  return symbols;
}

Result<std::string> ElfSymbols::ask(ElfMessage what, const std::string& request)
{
  if (!task_.socket)
    return failure(missing_.back());
  auto sent = send(task_.socket.get(), what, request);
  auto answer = sent ? task_.take(true, memory_bytes_) : tl::make_unexpected(sent.error());
  if (!answer) {
    task_.socket.reset();
    missing_.push_back(fmt::format("a file of the process {}: addresses only from there on", answer.error().message()));
    return failure(missing_.back());
  }
  return std::move(**answer);
}

void ElfSymbols::keep_missing(Unpacker& from)
{
  from.each([&] { missing_.push_back(from.text()); });
}

Result<void> ElfSymbols::remap()
{
  const auto answer = ask(ElfMessage::Remap, {});
  if (!answer)
    return tl::make_unexpected(answer.error());
  Unpacker from{*answer};
  auto verdict = take_verdict(from);
  if (verdict)
    keep_missing(from);
  return verdict;
}

std::vector<std::uint64_t> ElfSymbols::unwind(const identify::StackCopy& stack, std::size_t max_frames)
{
  Packer request;
  request.add<std::uint64_t>(max_frames).each(std::span(stack.registers).first(stack.register_count), [&](std::uint64_t value) {
    request.add(value);
  });
  request.add({reinterpret_cast<const char*>(stack.bytes.data()), stack.bytes.size()});
  const auto answer = ask(ElfMessage::Unwind, request.bytes());
  std::vector<std::uint64_t> addresses;
  Unpacker from{answer ? std::string_view(*answer) : std::string_view{}};
  if (take_verdict(from)) {
    from.each([&] { addresses.push_back(from.take<std::uint64_t>()); });
    keep_missing(from);
  }
  return addresses;
}

identify::Frame ElfSymbols::resolve(std::uint64_t address, bool is_return_address)
{
  const auto answer = ask(ElfMessage::Resolve, Packer{}.add(address).add(is_return_address).bytes());
  identify::Frame frame;
  Unpacker from{answer ? std::string_view(*answer) : std::string_view{}};
  if (take_verdict(from)) {
    frame = take_frame(from);
    keep_missing(from);
  }
  frame.address = address;
  return frame;
}

}  // namespace laggard::source::live
