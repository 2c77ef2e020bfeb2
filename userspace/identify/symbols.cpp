// SPDX-License-Identifier: MIT
#include "identify/symbols.h"

#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <elfutils/libdwfl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "identify/demangle.h"
#include "identify/process_maps.h"

namespace laggard::identify {
namespace {

#if defined(__x86_64__)
constexpr std::size_t kRegisters = 17, kProgramCounter = 16, kSetRegisters = 17;
constexpr GElf_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::size_t kRegisters = 33, kProgramCounter = 32, kSetRegisters = 32;
constexpr GElf_Half kMachine = EM_AARCH64;
#else
#error "The order of this machine's DWARF registers is not known here: add it"
#endif

constexpr int kThread = 1;                                // any: libdwfl wants threads to have a number
constexpr std::size_t kMaxDescriptors = 512;              // of the 1024 that a process may have by default
constexpr std::int64_t kMaxDebugFileBytes = 512LL << 20;  // copied of one process, all together
constexpr std::size_t kMaxSegments = 256;         // of a file; GNU ld makes about four. Gone through for each mapping
constexpr std::uint64_t kMaxUnsizedBytes = 4096;  // a symbol without a size (assembly) reaches at most that far
constexpr std::size_t kMaxCachedFrames = 65536;
constexpr std::size_t kMaxMissing = 256;  // beyond that a list helps nobody

struct EndElf {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using ElfHandle = std::unique_ptr<Elf, EndElf>;
struct EndDwfl {
  void operator()(Dwfl* dwfl) const { dwfl_end(dwfl); }
};

rlim_t memory_limit()
{
  rlimit data{};
  return ::getrlimit(RLIMIT_DATA, &data) == 0 ? data.rlim_cur : RLIM_INFINITY;
}

// libdw's own handler ends the process. The attribute is part of the type that it wants.
__attribute__((noreturn)) void out_of_memory() { throw std::bad_alloc(); }

std::int64_t size_of(const Fd& file)
{
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 ? status.st_size : 0;
}

using FileKey = std::tuple<std::uint32_t, std::uint32_t, std::uint64_t, bool, std::string>;

FileKey key_of(const Mapping& mapping)
{
  return {mapping.device_major, mapping.device_minor, mapping.inode, mapping.is_deleted, mapping.name};
}

std::vector<GElf_Phdr> loaded_segments(Elf* elf)
{
  std::vector<GElf_Phdr> loaded;
  std::size_t count = 0;
  GElf_Phdr segment;
  if (elf_getphdrnum(elf, &count) != 0 || count > kMaxSegments) return loaded;
  for (int i = 0; i < static_cast<int>(count) && gelf_getphdr(elf, i, &segment) != nullptr; ++i)
    if (segment.p_type == PT_LOAD) loaded.push_back(segment);
  return loaded;
}

// The virtual address that a page at `offset` of the file is mapped for, in an executable segment if there is one.
std::optional<std::uint64_t> vaddr_of(const std::vector<GElf_Phdr>& segments, std::uint64_t offset)
{
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::optional<std::uint64_t> vaddr;
  for (const GElf_Phdr& segment : segments) {
    const std::uint64_t first = segment.p_offset / page * page;
    const bool covers = offset >= first && offset - first < segment.p_filesz + segment.p_offset % page;
    if (covers && (!vaddr || (segment.p_flags & PF_X) != 0)) vaddr = offset - segment.p_offset + segment.p_vaddr;
  }
  return vaddr;
}

bool is_native(Elf* elf)
{
  GElf_Ehdr header;
  return gelf_getehdr(elf, &header) != nullptr && header.e_machine == kMachine && gelf_getclass(elf) == ELFCLASS64;
}

// Has more than exported names; .gnu_debugdata is a packed symbol table.
bool has_symbol_table(Elf* elf)
{
  std::size_t names = 0;
  if (elf_getshdrstrndx(elf, &names) != 0) return false;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) continue;
    const char* name = elf_strptr(elf, names, header.sh_name);
    if (header.sh_type == SHT_SYMTAB || (name != nullptr && std::string_view(name) == ".gnu_debugdata")) return true;
  }
  return false;
}

std::string build_id_of(Elf* elf)
{
  const void* bytes = nullptr;
  const auto size = dwelf_elf_gnu_build_id(elf, &bytes);
  std::string hex;
  for (ssize_t i = 0; i < size; ++i) hex += fmt::format("{:02x}", static_cast<const unsigned char*>(bytes)[i]);
  return hex;
}

// libdwfl maps what it is given here: so a copy that nobody truncates.
Fd copy_of(const Fd& file, std::int64_t size)
{
  Fd copy(::memfd_create("laggard-debug-file", MFD_CLOEXEC));
  off_t at = 0;
  while (copy && at < size)
    if (::sendfile(copy.get(), file.get(), &at, static_cast<std::size_t>(size - at)) <= 0) return {};
  return copy;
}

}  // namespace

struct Symbols::State {
  State(std::uint32_t of, std::unique_ptr<ProcessFiles> opener, std::span<const std::uint64_t> addresses)
      : tgid(of), opens(std::move(opener)), only(addresses.begin(), addresses.end())
  {
  }

  // One file with code, however often it is mapped.
  struct Module {
    State* state = nullptr;
    std::string name;
    Fd file;
    std::vector<char> memory;         // of "[vdso]", which has no file
    ElfHandle elf;                    // read, never mapped: a file that is truncated under a mapping kills the reader
    std::string trouble;              // why there is none; a clause to follow the name
    std::vector<GElf_Phdr> segments;  // that are loaded
    bool is_too_large = false;        // libdw gave up on it
    bool has_symbols = false;         // its own or a debug file's, once libdwfl asked for them; not only exported ones
  };
  struct Part {                         // for each mapping
    std::shared_ptr<Module> module;     // null: no code, or not a file's
    std::optional<std::uint64_t> bias;  // from the file's addresses to the process's; nothing: it does not map this
  };
  std::uint32_t tgid;
  std::unique_ptr<ProcessFiles> opens;
  std::vector<std::uint64_t> only;  // in the files of these addresses; empty: in all
  std::vector<Mapping> maps;
  std::map<FileKey, std::shared_ptr<Module>> modules;
  std::vector<Part> parts;  // of maps[i]
  Elf64_Ehdr header{};      // says which machine this is
  ElfHandle own_elf;
  std::unique_ptr<Dwfl, EndDwfl> dwfl;  // reads from all above
  bool is_foreign = false;
  std::map<std::pair<std::uint64_t, bool>, Frame> cache;
  std::size_t descriptors = 0;
  std::size_t debug_files = 0;  // of the session, and so held open by it
  std::int64_t debug_bytes = 0;
  const rlim_t memory_bytes = memory_limit();
  std::vector<std::string> missing;
  // While unwinding:
  const StackCopy* stack = nullptr;
  std::size_t max_frames = 0;
  std::vector<std::uint64_t> frames;

  void miss(std::string sentence)
  {
    if (missing.size() < kMaxMissing && std::ranges::find(missing, sentence) == missing.end())
      missing.push_back(std::move(sentence));
  }
  Result<void> read_maps();
  void open_modules();
  void open_module(Module& module, const Mapping& mapping);
  void begin_session();
  // Runs `work`, which reads `of`; null: of more than one file. One unwind rule for a large register makes elfutils want 2 GB,
  // a packed section may grow a thousandfold.
  void within_memory(Module* of, const std::function<void()>& work);
  Fd open_debug_file(Module& module, const char* link);
  const Mapping* find(std::uint64_t address) const;
  Frame look_up(std::uint64_t address, bool is_return_address);
  void name(Dwfl_Module* file, std::uint64_t address, Frame& frame);

  static int find_elf(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr, char** file_name, Elf** elf);
  static int find_debuginfo(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr, const char*, const char* link,
                            GElf_Word, char**);
  static bool read_memory(Dwfl*, Dwarf_Addr address, Dwarf_Word* word, void* self);
  static bool set_registers(Dwfl_Thread* thread, void* self);
  static int on_frame(Dwfl_Frame* frame, void* self);
};

Result<void> Symbols::State::read_maps()
{
  auto now = opens->maps();
  if (!now) {
    const int error = now.error().code.value();
    if (error == EACCES || error == EPERM) {
      miss(fmt::format("maps of process {} may not be read (needs CAP_SYS_PTRACE): addresses only", tgid));
      if (dwfl == nullptr) begin_session();
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
  dwfl.reset();
  cache.clear();
  descriptors = 0;
  is_foreign = false;
  const auto before = std::exchange(modules, {});
  parts.assign(maps.size(), {});
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const bool is_vdso = maps[i].name == "[vdso]";
    if (!maps[i].is_executable || (!maps[i].name.starts_with('/') && !is_vdso)) continue;
    const auto is_inside = [&](std::uint64_t address) { return maps[i].start <= address && address <= maps[i].end; };
    if (!only.empty() && std::ranges::none_of(only, is_inside)) continue;
    const auto [entry, is_new] = modules.try_emplace(key_of(maps[i]));
    auto& module = entry->second;
    if (is_new) {
      // A process that executes another word size's program has another vdso.
      const auto known = before.find(entry->first);
      module = known != before.end() && !is_vdso ? known->second : std::make_shared<Module>();
      module->state = this;
      module->is_too_large = false;
      module->has_symbols = false;
      if (module->elf == nullptr) open_module(*module, maps[i]);
      if (module->elf != nullptr) ++descriptors;
    }
    parts[i].module = module;
    if (module->elf == nullptr) continue;
    is_foreign = is_foreign || !is_native(module->elf.get());
    if (const auto vaddr = vaddr_of(module->segments, maps[i].file_offset)) parts[i].bias = maps[i].start - *vaddr;
  }
  begin_session();
}

void Symbols::State::open_module(Module& module, const Mapping& mapping)
{
  module.name = mapping.name;
  module.trouble.clear();
  if (descriptors >= kMaxDescriptors) {
    miss(fmt::format("more than {} files are mapped: the last ones with module and offset only", kMaxDescriptors));
    return;
  }
  if (mapping.name == "[vdso]") {
    module.memory = opens->read_memory(mapping);
    module.elf.reset(elf_memory(module.memory.data(), module.memory.size()));
  } else {
    auto file = opens->open_mapped(mapping);
    if (!file) {
      module.trouble = file.error().message();
      return;
    }
    module.file = std::move(*file);
    module.elf.reset(elf_begin(module.file.get(), ELF_C_READ, nullptr));
  }
  const bool is_elf = elf_kind(module.elf.get()) == ELF_K_ELF;
  if (is_elf) module.segments = loaded_segments(module.elf.get());
  if (!module.segments.empty()) return;
  module.trouble = is_elf ? "has damaged ELF headers" : "is not an ELF file";
  module.elf.reset();
  module.file.reset();
}

void Symbols::State::begin_session()
{
  static const Dwfl_Callbacks callbacks{find_elf, find_debuginfo, nullptr, nullptr};
  // There is one thread: this state.
  static const Dwfl_Thread_Callbacks thread_callbacks{
      [](Dwfl*, void* self, void** thread) { return *thread == nullptr ? (*thread = self, kThread) : 0; },
      [](Dwfl*, pid_t, void* self, void** thread) { return (*thread = self) != nullptr; },
      read_memory,
      set_registers,
      nullptr,
      nullptr};
  struct Loaded {
    std::uint64_t end;
    Module* module;
  };
  std::map<std::uint64_t, Loaded> files;  // by start: the parts of a file are one
  for (const Part& part : parts) {
    if (!part.bias) continue;
    const auto& segments = part.module->segments;
    std::uint64_t end = 0;
    for (const GElf_Phdr& segment : segments) end = std::max(end, segment.p_vaddr + segment.p_memsz);
    const std::uint64_t start = segments[0].p_vaddr & -segments[0].p_align;  // as libdwfl takes it
    files.try_emplace(*part.bias + start, Loaded{*part.bias + end, part.module.get()});
  }
  debug_files = 0;
  debug_bytes = 0;
  dwfl.reset(dwfl_begin(&callbacks));
  if (dwfl == nullptr) return;  // out of memory: there are no names
  dwfl_report_begin(dwfl.get());
  for (auto file = files.begin(); file != files.end(); ++file) {
    const auto next = std::next(file);
    const std::uint64_t end = next == files.end() ? file->second.end : std::min(file->second.end, next->first);
    if (end <= file->first) continue;
    Dwfl_Module* module = dwfl_report_module(dwfl.get(), "file", file->first, end);
    void** userdata = nullptr;
    if (module == nullptr) continue;
    dwfl_module_info(module, &userdata, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
    *userdata = file->second.module;
  }
  dwfl_report_end(dwfl.get(), nullptr, nullptr);
  [[maybe_unused]] const bool attached = dwfl_attach_state(dwfl.get(), own_elf.get(), kThread, &thread_callbacks, this);
  assert(attached);
}

void Symbols::State::within_memory(Module* of, const std::function<void()>& work)
{
  try {
    work();
  } catch (const std::bad_alloc&) {
    begin_session();  // which gives the memory back
    if (of != nullptr) of->is_too_large = true;
    miss(fmt::format("{} has more tables than fit into memory: some without names",
                     of != nullptr ? of->name : fmt::format("process {}", tgid)));
  }
}

// ---- what libdwfl asks for: it opens no file itself, and asks no server ----

int Symbols::State::find_elf(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr, char** file_name, Elf** elf)
{
  Module& self = *static_cast<Module*>(*userdata);
  *file_name = nullptr;
  self.has_symbols = has_symbol_table(self.elf.get());
  *elf = elf_begin(-1, ELF_C_READ, self.elf.get());  // shared
  return -1;
}

int Symbols::State::find_debuginfo(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr, const char*,
                                   const char* link, GElf_Word, char**)
{
  Module& self = *static_cast<Module*>(*userdata);
  return self.state->open_debug_file(self, link).release();
}

// A separate debug file of the same build id.
Fd Symbols::State::open_debug_file(Module& module, const char* link)
{
  const std::string build_id = build_id_of(module.elf.get());
  if (build_id.size() < 4 || module.name == "[vdso]") return {};
  std::vector<std::string> paths = {
      fmt::format("/usr/lib/debug/.build-id/{}/{}.debug", build_id.substr(0, 2), build_id.substr(2))};
  if (link != nullptr && std::string_view(link).find('/') == std::string_view::npos) {
    const std::string folder = module.name.substr(0, module.name.rfind('/'));
    paths.push_back(fmt::format("{}/{}", folder, link));
    paths.push_back(fmt::format("{}/.debug/{}", folder, link));
    paths.push_back(fmt::format("/usr/lib/debug{}/{}", folder, link));
  }
  for (const std::string& path : paths) {
    for (const Fd& file : opens->open_named(path)) {
      if (descriptors + debug_files >= kMaxDescriptors) return {};
      const ElfHandle elf(elf_begin(file.get(), ELF_C_READ, nullptr));
      if (elf_kind(elf.get()) != ELF_K_ELF || build_id_of(elf.get()) != build_id) continue;
      const std::int64_t bytes = size_of(file);
      Fd copy = bytes > kMaxDebugFileBytes - debug_bytes ? Fd() : copy_of(file, bytes);
      if (!copy) continue;
      ++debug_files;
      debug_bytes += bytes;
      module.has_symbols = module.has_symbols || has_symbol_table(elf.get());
      return copy;
    }
  }
  return {};
}

bool Symbols::State::read_memory(Dwfl*, Dwarf_Addr address, Dwarf_Word* word, void* self)
{
  const StackCopy& stack = *static_cast<State*>(self)->stack;
  const std::uint64_t offset = address - stack.registers[kStackPointer];
  if (offset > stack.bytes.size() || stack.bytes.size() - offset < sizeof *word) return false;
  std::memcpy(word, stack.bytes.data() + offset, sizeof *word);
  return true;
}

bool Symbols::State::set_registers(Dwfl_Thread* thread, void* self)
{
  const StackCopy& stack = *static_cast<State*>(self)->stack;
  if (!dwfl_thread_state_registers(thread, 0, kSetRegisters, stack.registers.data())) return false;
  if (kProgramCounter >= kSetRegisters) dwfl_thread_state_register_pc(thread, stack.registers[kProgramCounter]);
  return true;
}

int Symbols::State::on_frame(Dwfl_Frame* frame, void* self)
{
  State& state = *static_cast<State*>(self);
  Dwarf_Addr address = 0;
  if (!dwfl_frame_pc(frame, &address, nullptr)) return DWARF_CB_ABORT;
  // The first is where the thread was, whatever it is. Behind it, what is not code is a guess that went wrong.
  if (!state.frames.empty() && !state.maps.empty()) {
    const Mapping* mapping = state.find(address - 1);
    if (mapping == nullptr || !mapping->is_executable) return DWARF_CB_ABORT;
  }
  state.frames.push_back(address);
  return state.frames.size() < state.max_frames ? DWARF_CB_OK : DWARF_CB_ABORT;
}

// ---- names ----

const Mapping* Symbols::State::find(std::uint64_t address) const
{
  const auto behind = std::upper_bound(maps.begin(), maps.end(), address,
                                       [](std::uint64_t a, const Mapping& mapping) { return a < mapping.start; });
  return behind == maps.begin() || address >= std::prev(behind)->end ? nullptr : &*std::prev(behind);
}

Frame Symbols::State::look_up(std::uint64_t address, bool is_return_address)
{
  Frame frame;
  frame.address = address;
  const std::uint64_t asked = is_return_address && address > 0 ? address - 1 : address;
  const Mapping* mapping = find(asked);
  if (mapping == nullptr) return frame;
  frame.module = mapping->name;
  frame.module_offset = address - mapping->start + mapping->file_offset;
  const auto& [module, bias] = parts[static_cast<std::size_t>(mapping - maps.data())];
  if (module == nullptr) return frame;
  if (!module->trouble.empty()) miss(fmt::format("{} {}: module and offset only", module->name, module->trouble));
  if (module->elf == nullptr) return frame;
  if (!bias) {
    miss(fmt::format("{} does not say what it maps here: module and offset only", module->name));
    return frame;
  }
  frame.module_offset = address - *bias;
  Dwfl_Module* file = dwfl == nullptr ? nullptr : dwfl_addrmodule(dwfl.get(), asked);
  void** owner = nullptr;
  if (file != nullptr) dwfl_module_info(file, &owner, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
  if (owner == nullptr || *owner != module.get() || module->is_too_large) return frame;
  within_memory(module.get(), [&] { name(file, asked, frame); });
  if (frame.source_file.empty() && static_cast<rlim_t>(size_of(module->file)) > memory_bytes)
    miss(fmt::format("{} is larger than {} bytes: what does not fit into them has no names or lines", module->name,
                     memory_bytes));
  frame.symbol_offset += frame.symbol.empty() ? 0 : address - asked;
  if (!module->has_symbols && module->name != "[vdso]")
    miss(fmt::format("{} is stripped: exported names only", module->name));
  return frame;
}

void Symbols::State::name(Dwfl_Module* file, std::uint64_t address, Frame& frame)
{
  GElf_Sym symbol{};
  GElf_Off offset = 0;
  const char* linked = dwfl_module_addrinfo(file, address, &offset, &symbol, nullptr, nullptr, nullptr);
  if (linked != nullptr && offset < (symbol.st_size == 0 ? kMaxUnsizedBytes : symbol.st_size)) {
    const std::string text(linked);
    frame.symbol = demangled(text.substr(0, text.find('@', 1)));  // ".symtab" has "memcpy@@GLIBC_2.14"
    frame.symbol_offset = offset;
  }
  // What dwz took out is in a file that libdw would open itself, wherever this one says it is: maybe a pipe.
  Dwarf_Addr bias = 0;
  const char* other_name = nullptr;
  const void* other_id = nullptr;
  Dwarf* dwarf = dwfl_module_getdwarf(file, &bias);
  if (dwarf != nullptr) dwarf_new_oom_handler(dwarf, out_of_memory);
  if (dwarf == nullptr || dwelf_dwarf_gnu_debugaltlink(dwarf, &other_name, &other_id) > 0) return;
  const char* source = nullptr;
  if (Dwfl_Line* line = dwfl_module_getsrc(file, address)) {
    source = dwfl_lineinfo(line, nullptr, &frame.source_line, nullptr, nullptr, nullptr);
  } else {  // clang writes no .debug_aranges, by which libdwfl looks
    for (Dwarf_Die* unit = nullptr; source == nullptr && (unit = dwfl_module_nextcu(file, unit, &bias)) != nullptr;) {
      Dwarf_Line* of_unit = dwarf_haspc(unit, address - bias) > 0 ? dwarf_getsrc_die(unit, address - bias) : nullptr;
      if (of_unit == nullptr || dwarf_lineno(of_unit, &frame.source_line) != 0) continue;
      source = dwarf_linesrc(of_unit, nullptr, nullptr);
    }
  }
  if (source != nullptr) frame.source_file = source;
}

Symbols::Symbols(std::unique_ptr<State> state) : state_(std::move(state)) {}
Symbols::Symbols(Symbols&&) noexcept = default;
Symbols& Symbols::operator=(Symbols&&) noexcept = default;
Symbols::~Symbols() = default;

Result<Symbols> Symbols::open(std::uint32_t tgid, const std::string& proc)
{
  auto directory = ProcessDirectory::open(tgid, proc);
  if (!directory) return tl::make_unexpected(directory.error());
  return open(tgid, std::make_unique<ProcessDirectory>(std::move(*directory)));
}

Result<Symbols> Symbols::open(std::uint32_t tgid, std::unique_ptr<ProcessFiles> files,
                              std::span<const std::uint64_t> only)
{
  auto state = std::make_unique<State>(tgid, std::move(files), only);
  elf_version(EV_CURRENT);
  std::memcpy(state->header.e_ident, ELFMAG, SELFMAG);
  state->header.e_ident[EI_CLASS] = ELFCLASS64;
  state->header.e_ident[EI_DATA] = ELFDATA2LSB;
  state->header.e_ident[EI_VERSION] = EV_CURRENT;
  state->header.e_machine = kMachine;
  state->header.e_version = EV_CURRENT;
  state->own_elf.reset(elf_memory(reinterpret_cast<char*>(&state->header), sizeof state->header));
  if (auto read = state->read_maps(); !read) return tl::make_unexpected(read.error());
  return Symbols(std::move(state));
}

Result<void> Symbols::remap() { return state_->read_maps(); }

std::vector<std::uint64_t> Symbols::unwind(const StackCopy& stack, std::size_t max_frames)
{
  if (stack.register_count < kRegisters || max_frames == 0) return {};
  State& state = *state_;
  state.stack = &stack;
  state.max_frames = max_frames;
  state.frames.clear();
  if (state.is_foreign) {
    state.miss(fmt::format("process {} runs code of another word size or machine: its callers cannot be looked for",
                           state.tgid));
  } else if (state.dwfl != nullptr) {
    state.within_memory(nullptr, [&] {  // an error is the end of what it found
      dwfl_getthread_frames(state.dwfl.get(), kThread, State::on_frame, &state);
    });
  }
  if (state.frames.empty()) state.frames.push_back(stack.registers[kProgramCounter]);
  return std::exchange(state.frames, {});
}

Frame Symbols::resolve(std::uint64_t address, bool is_return_address)
{
  auto& cache = state_->cache;
  if (cache.size() >= kMaxCachedFrames) cache.clear();
  const auto [entry, is_new] = cache.try_emplace({address, is_return_address});
  if (is_new) entry->second = state_->look_up(address, is_return_address);
  return entry->second;
}

const std::vector<std::string>& Symbols::missing() const { return state_->missing; }

}  // namespace laggard::identify
