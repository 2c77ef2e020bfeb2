// SPDX-License-Identifier: MIT
#include "identify/symbols.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "identify/demangle.h"
#include "identify/line_table.h"
#include "identify/process_maps.h"
#include "identify/symbol_table.h"
#include "identify/unwind_tables.h"

namespace laggard::identify {
namespace {

constexpr std::size_t kMaxDescriptors = 256;             // of the 1024 that a process may have by default
constexpr std::uint64_t kMaxCopiedBytes = 128ULL << 20;  // of memory, for files that are not to be had
// Of all modules' tables. A browser with debug information needs half of it; a process that maps sparse files of
// nothing but names would have ours take all memory.
constexpr std::uint64_t kMaxHeldBytes = 1ULL << 30;
constexpr std::size_t kMaxCachedFrames = 65536;
constexpr std::size_t kMaxMissing = 256;  // beyond that a list helps nobody

// One file with code, however often it is mapped. What is in it is read when it is first needed.
struct Module {
  std::string name;
  bool is_opened = false;  // or it was tried
  bool is_kept = false;    // open until the process is of no interest; else only while it is read
  ProcessDirectory::Opened opened;
  bool is_read = false;
  std::optional<ElfFile> elf;
  bool has_names = false;
  std::optional<SymbolTable> names;
  std::optional<LineTable> lines;
  bool has_unwind_tables = false;
  std::optional<UnwindTables> unwind_tables;

  std::uint64_t held_bytes() const
  {
    return (names ? names->held_bytes() : 0) + (lines ? lines->held_bytes() : 0) +
           (unwind_tables ? unwind_tables->held_bytes() : 0);
  }
};

using FileKey = std::tuple<std::uint32_t, std::uint32_t, std::uint64_t, bool, std::string>;

FileKey key_of(const Mapping& mapping)
{
  return {mapping.device_major, mapping.device_minor, mapping.inode, mapping.is_deleted, mapping.name};
}

}  // namespace

struct Symbols::State {
  State(std::uint32_t of, ProcessDirectory open_directory) : tgid(of), directory(std::move(open_directory)) {}

  std::uint32_t tgid;
  ProcessDirectory directory;
  std::vector<Mapping> maps;
  std::map<FileKey, std::shared_ptr<Module>> modules;
  std::vector<std::shared_ptr<Module>> module_of;  // of maps[i]; null: no code, or not a file's
  std::unique_ptr<Unwinder> unwinder;
  std::unordered_map<std::uint64_t, Frame> cache[2];  // by address; [1]: return addresses
  std::uint64_t held_bytes = 0;
  std::vector<std::string> missing;
  std::set<std::string, std::less<>> missing_once;

  void miss(std::string sentence)
  {
    if (missing.size() < kMaxMissing && missing_once.insert(sentence).second) missing.push_back(std::move(sentence));
  }
  // Whether there is memory for more tables.
  bool may_hold_more(const Module& module)
  {
    if (held_bytes < kMaxHeldBytes) return true;
    miss(fmt::format("{}: too much was read of other files already: module and offset only", module.name));
    return false;
  }
  Result<void> read_maps();
  void open_modules();
  void open_module(Module& module, std::size_t index);
  void read_elf(Module& module, std::size_t index);
  void read_names(Module& module, std::size_t index);
  std::uint64_t bias(const ElfFile& elf, std::size_t index) const;
  void read_unwind_tables(Module& module);
  Bytes unwind_image(std::size_t index);
  Frame look_up(std::uint64_t address, bool is_return_address);
};

Result<void> Symbols::State::read_maps()
{
  auto now = directory.maps();
  if (!now) {
    const int error = now.error().code.value();
    if (error == EACCES || error == EPERM) {
      miss(fmt::format("maps of process {} may not be read (needs CAP_SYS_PTRACE): addresses only", tgid));
      return {};
    }
    if (error == ESRCH || error == ENOENT) return failure(fmt::format("process {} has exited", tgid));
    return failure(fmt::format("maps of process {}", tgid), now.error().code);
  }
  // A process that is exiting has a directory, but no memory any more.
  if (now->empty() && !maps.empty()) return failure(fmt::format("process {} has exited", tgid));
  if (now->empty())
    miss(fmt::format("process {} has no memory of its own (it has exited, or is a kernel thread): addresses only",
                     tgid));
  maps = std::move(*now);
  open_modules();
  return {};
}

void Symbols::State::open_modules()
{
  std::map<FileKey, std::shared_ptr<Module>> before;
  before.swap(modules);
  module_of.assign(maps.size(), nullptr);
  cache[0].clear();
  cache[1].clear();
  unwinder.reset();
  held_bytes = 0;
  std::size_t descriptors = 0;
  std::uint64_t copied_bytes = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].is_executable || (!maps[i].name.starts_with('/') && maps[i].name != "[vdso]")) continue;
    auto& module = modules[key_of(maps[i])];
    if (module == nullptr) {
      const auto known = before.find(key_of(maps[i]));
      // A process that executes another word size's program has another vdso.
      const bool reuse = known != before.end() && maps[i].name != "[vdso]";
      module = reuse ? known->second : std::make_shared<Module>();
      module->name = maps[i].name;
      held_bytes += module->held_bytes();
      if (!module->is_opened && descriptors < kMaxDescriptors && copied_bytes < kMaxCopiedBytes) {
        open_module(*module, i);
        module->is_kept = true;
      }
      if (module->is_kept) {
        descriptors += module->opened.holds_descriptor ? 1 : 0;
        copied_bytes += module->opened.copied_bytes;
      }
    }
    module_of[i] = module;
  }
}

void Symbols::State::open_module(Module& module, std::size_t index)
{
  module.opened = directory.open_mapped(maps, index);
  module.is_opened = true;
}

void Symbols::State::read_elf(Module& module, std::size_t index)
{
  if (module.is_read) return;
  module.is_read = true;
  if (!module.is_opened) open_module(module, index);
  const auto& opened = module.opened;
  if (opened.bytes != nullptr) {
    auto elf = ElfFile::read(opened.bytes);
    if (!elf)
      miss(fmt::format("{}: {}: module and offset only", module.name, elf.error().message()));
    else if (elf->vaddr_of(maps[index].file_offset))
      module.elf = std::move(*elf);
    else
      miss(fmt::format("{} does not say what it maps here: module and offset only", module.name));
  }
  if (!opened.trouble.empty()) miss(fmt::format("{} {}", module.name, opened.trouble));
  if (!module.elf || module.is_kept) return;
  read_names(module, index);
  read_unwind_tables(module);
  module.elf->close();
  module.opened.bytes.reset();
}

std::uint64_t Symbols::State::bias(const ElfFile& elf, std::size_t index) const
{
  return maps[index].start - elf.vaddr_of(maps[index].file_offset).value_or(maps[index].file_offset);
}

void Symbols::State::read_names(Module& module, std::size_t index)
{
  if (module.has_names) return;
  module.has_names = true;
  if (!may_hold_more(module)) return;
  const ElfFile& elf = *module.elf;
  module.names = SymbolTable::full(elf, elf);
  module.lines = LineTable::read(elf);
  // What the file itself lacks may be in a file of its own; not what a process holds in memory alone.
  if ((!module.names || !module.lines) && module.name != "[vdso]") {
    if (const auto debug_file = directory.find_debug_file(elf, module.name)) {
      if (!module.names) module.names = SymbolTable::full(*debug_file, elf);
      if (!module.lines) module.lines = LineTable::read(*debug_file);
    }
  }
  const bool is_stripped = !module.names;
  if (is_stripped) module.names = SymbolTable::exported(elf, bias(elf, index));
  held_bytes += (module.names ? module.names->held_bytes() : 0) + (module.lines ? module.lines->held_bytes() : 0);
  if (!is_stripped || module.name == "[vdso]" || module.opened.copied_bytes > 0)
    return;  // everything it has, and said already
  const bool none = !module.names || module.names->empty();
  miss(fmt::format("{} is stripped: {}", module.name, none ? "module and offset only" : "exported names only"));
}

void Symbols::State::read_unwind_tables(Module& module)
{
  if (module.has_unwind_tables) return;
  module.has_unwind_tables = true;
  if (!may_hold_more(module)) return;
  auto tables = UnwindTables::read(*module.elf);
  if (tables && *tables) {
    held_bytes += (*tables)->held_bytes();
    module.unwind_tables = std::move(*tables);
  } else if (!tables) {
    miss(fmt::format("{}: {}: callers are looked for by frame pointers", module.name, tables.error().message()));
  }
  if (!module.elf->is_64_bit()) miss(fmt::format("{} is a 32-bit file: its callers cannot be looked for", module.name));
}

Bytes Symbols::State::unwind_image(std::size_t index)
{
  // `index` counts executable mappings only.
  std::size_t at = 0;
  for (; at < maps.size(); ++at)
    if (maps[at].is_executable && index-- == 0) break;
  if (at == maps.size() || module_of[at] == nullptr) return {};
  Module& module = *module_of[at];
  read_elf(module, at);
  if (!module.elf) return {};
  read_unwind_tables(module);
  if (!module.unwind_tables || !may_hold_more(module)) return {};
  held_bytes += module.unwind_tables->held_bytes();  // once more in the image
  const Mapping& mapping = maps[at];
  return module.unwind_tables->image(mapping.start - bias(*module.elf, at), mapping.end - mapping.start);
}

Frame Symbols::State::look_up(std::uint64_t address, bool is_return_address)
{
  Frame frame;
  frame.address = address;
  const std::uint64_t asked = is_return_address && address > 0 ? address - 1 : address;
  const auto behind = std::upper_bound(maps.begin(), maps.end(), asked,
                                       [](std::uint64_t a, const Mapping& mapping) { return a < mapping.start; });
  if (behind == maps.begin() || asked >= std::prev(behind)->end) return frame;
  const auto index = static_cast<std::size_t>(std::prev(behind) - maps.begin());
  const Mapping& mapping = maps[index];
  frame.module = mapping.name;
  frame.module_offset = address - mapping.start + mapping.file_offset;
  if (module_of[index] == nullptr) return frame;
  Module& module = *module_of[index];
  read_elf(module, index);
  if (!module.elf) return frame;
  read_names(module, index);
  const std::uint64_t load_bias = bias(*module.elf, index);
  frame.module_offset = address - load_bias;
  if (const auto match = module.names ? module.names->find(asked - load_bias) : std::nullopt) {
    frame.symbol = demangled(match->name);
    frame.symbol_offset = match->offset + (address - asked);
  }
  if (auto line = module.lines ? module.lines->find(asked - load_bias) : std::nullopt) {
    frame.source_file = std::move(line->file);
    frame.source_line = line->line;
  }
  return frame;
}

Symbols::Symbols(std::unique_ptr<State> state) : state_(std::move(state)) {}
Symbols::Symbols(Symbols&&) noexcept = default;
Symbols& Symbols::operator=(Symbols&&) noexcept = default;
Symbols::~Symbols() = default;

Result<Symbols> Symbols::open(std::uint32_t tgid, const std::string& proc)
{
  auto directory = ProcessDirectory::open(tgid, proc);
  if (!directory) return tl::make_unexpected(directory.error());
  auto state = std::make_unique<State>(tgid, std::move(*directory));
  if (auto read = state->read_maps(); !read) return tl::make_unexpected(read.error());
  return Symbols(std::move(state));
}

Result<void> Symbols::remap() { return state_->read_maps(); }

std::vector<std::uint64_t> Symbols::unwind(const StackCopy& stack, std::size_t max_frames)
{
  if (state_->unwinder == nullptr) {
    std::vector<Unwinder::Code> code;
    for (const Mapping& mapping : state_->maps)
      if (mapping.is_executable) code.push_back({mapping.start, mapping.end});
    state_->unwinder = std::make_unique<Unwinder>(
        std::move(code), [state = state_.get()](std::size_t index) { return state->unwind_image(index); });
  }
  return state_->unwinder->unwind(stack, max_frames);
}

Frame Symbols::resolve(std::uint64_t address, bool is_return_address)
{
  auto& cache = state_->cache[is_return_address ? 1 : 0];
  if (const auto known = cache.find(address); known != cache.end()) return known->second;
  if (cache.size() >= kMaxCachedFrames) cache.clear();
  return cache.emplace(address, state_->look_up(address, is_return_address)).first->second;
}

const std::vector<std::string>& Symbols::missing() const { return state_->missing; }

}  // namespace laggard::identify
