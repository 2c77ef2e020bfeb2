// SPDX-License-Identifier: MIT
#include "source/live/elf_worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <utility>

#include "identify/elf_image.h"
#include "identify/functions.h"
#include "identify/usdt.h"
#include "source/live/confinement.h"
#include "source/pair_spec.h"

namespace laggard::source::live {
namespace {

constexpr std::size_t kMostNameBytes = 64 << 10;  // a C++ name that is demangled may have a million

bool is_usdt(std::string_view name) { return name.starts_with(kUsdt); }

using identify::Mapping;

// Asks laggard to open what symbols are in.
class AskedFiles final : public identify::ProcessFiles {
 public:
  explicit AskedFiles(int socket, std::vector<Mapping> known = {}) : socket_(socket), known_(std::move(known)) {}

  Result<std::vector<Mapping>> maps() override
  {
    if (!known_.empty())
      return known_;
    auto reply = ask(ElfMessage::Maps, {});
    if (reply.files.empty())
      return errno_failure("maps", Unpacker{reply.bytes}.take<int>());
    return identify::read_maps(reply.files.front());
  }
  Result<Fd> open_mapped(const Mapping& mapping) override
  {
    auto reply = ask(ElfMessage::Mapped, Packer{}.add(mapping.start).bytes());
    if (reply.files.empty())
      return failure(Unpacker{reply.bytes}.text());
    return std::move(reply.files.front());
  }
  std::vector<char> read_memory(const Mapping& mapping) override
  {
    const auto reply = ask(ElfMessage::Memory, Packer{}.add(mapping.start).bytes());
    return {reply.bytes.begin(), reply.bytes.end()};
  }
  std::vector<Fd> open_named(const std::string& path) override { return ask(ElfMessage::Named, Packer{}.add(path).bytes()).files; }

 private:
  ElfPacket ask(ElfMessage what, const std::string& about)
  {
    if (!send(socket_, what, about))
      ::_exit(0);
    auto reply = receive(socket_, true);
    if (!reply || !*reply || (*reply)->kind != ElfMessage::Reply)
      ::_exit(0);  // laggard has left
    return std::move(**reply);
  }
  int socket_;
  std::vector<Mapping> known_;
};

Packer answer(const Error& error) { return std::move(Packer{}.add(false).add(error.context).add(error.code.value())); }

// ---- functions ----

Packer find_functions(Unpacker request, Fd file)
{
  struct Wanted {
    bool is_meant;
    std::vector<std::string> begins, others;
  };
  std::vector<Wanted> wanted;
  bool wants_functions = false;
  std::set<std::string> usdts;
  request.each([&] {
    Wanted& one = wanted.emplace_back(Wanted{request.take<bool>(), {}, {}});
    for (auto* names : {&one.begins, &one.others})
      request.each([&] {
        names->push_back(request.text());
        wants_functions |= !is_usdt(names->back());
      });
  });
  auto image = identify::ElfImage::open(std::move(file));
  if (!image)
    return answer(image.error());
  for (const std::string& probe : identify::usdt_probes(*image))
    usdts.insert(std::string(kUsdt) + probe);
  const auto table = wants_functions ? identify::FunctionTable::open(std::move(*image)) : identify::FunctionTable{};
  std::map<std::string, std::vector<identify::Function>> found;
  std::map<std::string, std::vector<std::string>> similar;
  std::set<std::string> found_usdts;
  for (const Wanted& one : wanted) {
    bool is_meant = one.is_meant;
    std::vector<std::string> missing;
    for (const auto* names : {&one.begins, &one.others})
      for (const std::string& name : *names) {
        if (usdts.contains(name))
          found_usdts.insert(name);
        if (is_usdt(name) || !table)
          continue;
        const auto& functions = found.try_emplace(name, table->find(name)).first->second;
        is_meant |= names == &one.begins && !functions.empty();
        if (functions.empty())
          missing.push_back(name);
      }
    for (const std::string& name : missing)
      if (is_meant && !similar.contains(name))
        similar.emplace(name, table->similar(name));
  }
  Packer result;
  result.add(true).add(table ? std::string{} : table.error().message());
  result.add(static_cast<std::uint8_t>(table ? table->calling_convention() : identify::CallingConvention::SystemV));
  result.each(found, [&](const auto& entry) {
    result.add(entry.first).each(entry.second, [&](const identify::Function& function) { result.add(function.file_offset); });
  });
  result.each(similar, [&](const auto& entry) {
    result.add(entry.first).each(entry.second, [&](const std::string& name) { result.add(name.substr(0, kMostNameBytes)); });
  });
  result.each(found_usdts, [&](const std::string& name) { result.add(name); });
  return result;
}

// ---- names ----

// Of files without symbols, by the table of the Go runtime: each is read once.
class GoNames {
 public:
  explicit GoNames(int socket) : files_(socket) {}
  std::string at(const Mapping& mapping, std::uint64_t address)
  {
    const auto [entry, is_new] = tables_.try_emplace({mapping.inode, mapping.name});
    if (is_new)
      if (auto file = files_.open_mapped(mapping))
        if (auto table = identify::FunctionTable::open(std::move(*file)))
          entry->second = std::move(*table);
    const auto& table = entry->second;
    if (!table || table->calling_convention() != identify::CallingConvention::Go)
      return {};  // others have code between their functions that is nobody's
    return table->at(address - mapping.start + mapping.file_offset);
  }

 private:
  AskedFiles files_;
  std::map<std::pair<std::uint64_t, std::string>, std::optional<identify::FunctionTable>> tables_;
};

Packer name(Unpacker request, int socket)
{
  const auto tgid = request.take<std::uint32_t>();
  std::vector<std::uint64_t> addresses;
  request.each([&] { addresses.push_back(request.take<std::uint64_t>()); });
  const auto maps = AskedFiles{socket}.maps();
  if (!maps)
    return answer(maps.error());
  auto symbols = identify::Symbols::open(tgid, std::make_unique<AskedFiles>(socket, *maps), addresses);
  if (!symbols)
    return answer(symbols.error());
  GoNames go_names{socket};
  std::vector<identify::Frame> frames;
  for (std::size_t i = 0; i < addresses.size(); i++) {
    const std::uint64_t inside = addresses[i] - (i > 0);
    const auto mapping = std::ranges::find_if(*maps, [inside](const Mapping& m) { return m.start <= inside && inside < m.end; });
    if (mapping == maps->end() || !mapping->is_executable)
      break;  // frame pointers that are none lead nowhere
    identify::Frame frame = symbols->resolve(addresses[i], i > 0);
    if (frame.symbol.empty())
      frame.symbol = go_names.at(*mapping, inside);
    frames.push_back(std::move(frame));
  }
  Packer result;
  result.add(true).each(frames, [&](const identify::Frame& frame) { add(result, frame); });
  return result;
}

// ---- a process, for as long as it is asked for ----

class Process {
 public:
  explicit Process(int socket) : socket_(socket) {}

  Packer open(Unpacker request)
  {
    auto symbols = identify::Symbols::open(request.take<std::uint32_t>(), std::make_unique<AskedFiles>(socket_));
    if (!symbols)
      return answer(symbols.error());
    symbols_.emplace(std::move(*symbols));
    return with_missing(std::move(Packer{}.add(true)));
  }
  Packer remap()
  {
    if (auto done = symbols_->remap(); !done)
      return answer(done.error());
    return with_missing(std::move(Packer{}.add(true)));
  }
  Packer unwind(Unpacker request)
  {
    identify::StackCopy stack;
    const auto most = request.take<std::uint64_t>();
    std::size_t count = 0;
    request.each([&] {
      const auto value = request.take<std::uint64_t>();
      if (count < stack.registers.size())
        stack.registers[count++] = value;
    });
    stack.register_count = count;
    const std::string bytes = request.text();
    stack.bytes.resize(bytes.size());
    std::ranges::transform(bytes, stack.bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
    Packer result;
    result.add(true).each(symbols_->unwind(stack, most), [&](std::uint64_t address) { result.add(address); });
    return with_missing(std::move(result));
  }
  Packer resolve(Unpacker request)
  {
    const auto address = request.take<std::uint64_t>();
    Packer result;
    result.add(true);
    add(result, symbols_->resolve(address, request.take<bool>()));
    return with_missing(std::move(result));
  }
  bool is_open() const { return symbols_.has_value(); }

 private:
  Packer with_missing(Packer result)
  {
    const auto& missing = symbols_->missing();
    const std::vector<std::string> more(missing.begin() + static_cast<std::ptrdiff_t>(said_), missing.end());
    said_ = missing.size();
    result.each(more, [&](const std::string& sentence) { result.add(sentence); });
    return result;
  }
  int socket_;
  std::optional<identify::Symbols> symbols_;
  std::size_t said_ = 0;
};

[[noreturn]] void serve(int socket)
{
  Process process{socket};
  for (;;) {
    auto packet = receive(socket, true);
    if (!packet || !*packet)
      ::_exit(0);
    const Unpacker request{(*packet)->bytes};
    std::optional<Packer> result;
    switch ((*packet)->kind) {
      case ElfMessage::Functions:
        if (!(*packet)->files.empty())
          result = find_functions(request, std::move((*packet)->files.front()));
        break;
      case ElfMessage::Names: result = name(request, socket); break;
      case ElfMessage::Open: result = process.open(request); break;
      case ElfMessage::Remap: result = process.is_open() ? std::optional(process.remap()) : std::nullopt; break;
      case ElfMessage::Unwind: result = process.is_open() ? std::optional(process.unwind(request)) : std::nullopt; break;
      case ElfMessage::Resolve: result = process.is_open() ? std::optional(process.resolve(request)) : std::nullopt; break;
      default: break;
    }
    if (!result)
      ::_exit(0);
    if (auto sent = send(socket, ElfMessage::Answer, result->bytes()); !sent && !send(socket, ElfMessage::Answer, answer(sent.error()).bytes()))
      ::_exit(0);
  }
}

[[noreturn]] void read_elf(int socket, pid_t starter, std::uint32_t cpu_seconds)
{
  if (!confine_reader(starter, cpu_seconds))
    ::_exit(1);
  try {
    serve(socket);
  } catch (const std::bad_alloc&) {
    ::_exit(kOutOfMemory);
  } catch (const std::exception&) {
  }
  ::_exit(1);
}

}  // namespace

void add(Packer& packer, const identify::Frame& frame)
{
  packer.add(frame.address)
      .add(std::string_view(frame.symbol).substr(0, kMostNameBytes))
      .add(frame.symbol_offset)
      .add(std::string_view(frame.module).substr(0, kMostNameBytes))
      .add(frame.module_offset)
      .add(std::string_view(frame.source_file).substr(0, kMostNameBytes))
      .add(frame.source_line);
}

identify::Frame take_frame(Unpacker& unpacker)
{
  identify::Frame frame;
  frame.address = unpacker.take<std::uint64_t>();
  frame.symbol = unpacker.text();
  frame.symbol_offset = unpacker.take<std::uint64_t>();
  frame.module = unpacker.text();
  frame.module_offset = unpacker.take<std::uint64_t>();
  frame.source_file = unpacker.text();
  frame.source_line = unpacker.take<int>();
  return frame;
}

void start_readers(int control, pid_t parent, std::uint64_t memory_bytes)
{
  const auto confined = confine_starter(control, parent, memory_bytes);
  const pid_t self = ::getpid();
  if (!send(kKept, ElfMessage::Ended, confined ? std::string{} : confined.error().message()) || !confined)
    ::_exit(1);
  for (;;) {
    auto begin = receive(kKept, true);
    if (!begin || !*begin || (*begin)->files.empty())
      ::_exit(0);
    const Fd socket = std::move((*begin)->files.front());
    Unpacker limits{(*begin)->bytes};
    const auto cpu_seconds = limits.take<std::uint32_t>(), seconds = limits.take<std::uint32_t>();
    const pid_t reader = ::fork();
    if (reader == 0) {
      ::close(kKept);
      read_elf(socket.get(), self, cpu_seconds);
    }
    int status = 1 << 8;
    bool is_late = false;
    if (reader > 0) {
      const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, reader, 0))};
      std::array<pollfd, 2> either = {pollfd{process.get(), POLLIN, 0}, pollfd{kKept, 0, 0}};  // ended, or laggard has
      is_late = ::poll(either.data(), either.size(), seconds > 0 ? static_cast<int>(seconds * 1000) : -1) == 0;
      if (is_late || either[1].revents != 0)
        ::kill(reader, SIGKILL);
      ::waitpid(reader, &status, 0);
    }
    (void)send(socket.get(), ElfMessage::Ended, Packer{}.add(status).add(is_late).bytes(), {}, false);
  }
}

}  // namespace laggard::source::live
