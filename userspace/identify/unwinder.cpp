// SPDX-License-Identifier: MIT
#include "identify/unwinder.h"

#include <elfutils/libdwfl.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <deque>
#include <string>

#include "identify/unwind_tables.h"

namespace laggard::identify {
namespace {

#if defined(__x86_64__)
constexpr std::size_t kRegisters = 17, kStackPointer = 7, kProgramCounter = 16, kSetRegisters = 17;
#elif defined(__aarch64__)
constexpr std::size_t kRegisters = 33, kStackPointer = 31, kProgramCounter = 32, kSetRegisters = 32;
#else
#error "The order of this machine's DWARF registers is not known here: add it"
#endif

constexpr int kThread = 1;  // any: libdwfl wants threads to have a number

}  // namespace

struct Unwinder::Session {
  std::vector<Code> code;
  Image image;
  std::deque<Bytes> images;  // libelf reads from them; in place until dwfl is gone
  Bytes own_header;          // says which machine this is
  Elf* own_elf = nullptr;
  Dwfl* dwfl = nullptr;
  const StackCopy* stack = nullptr;  // while unwinding
  std::size_t max_frames = 0;
  std::vector<std::uint64_t> frames;

  bool is_code(std::uint64_t address) const
  {
    const auto after =
        std::upper_bound(code.begin(), code.end(), address, [](std::uint64_t a, const Code& c) { return a < c.start; });
    return code.empty() || (after != code.begin() && address < std::prev(after)->end);
  }

  static Elf* elf_of(Bytes& bytes) { return elf_memory(reinterpret_cast<char*>(bytes.data()), bytes.size()); }

  // libdwfl's callbacks. It finds everything through these: no file is opened, no server asked, by it.
  static int find_elf(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr base, char** file_name, Elf** elf)
  {
    auto& self = *static_cast<Session*>(*userdata);
    *file_name = nullptr;
    const auto found = std::find_if(self.code.begin(), self.code.end(), [&](const Code& c) { return c.start == base; });
    if (found != self.code.end()) {
      Bytes bytes = self.image(static_cast<std::size_t>(found - self.code.begin()));
      if (!bytes.empty()) {
        self.images.push_back(std::move(bytes));
        *elf = elf_of(self.images.back());
      }
    }
    return -1;  // there is no descriptor either way
  }
  static int find_no_debuginfo(Dwfl_Module*, void**, const char*, Dwarf_Addr, const char*, const char*, GElf_Word,
                               char**)
  {
    return -1;
  }
  static pid_t next_thread(Dwfl*, void* self, void** thread)
  {
    if (*thread != nullptr) return 0;
    *thread = self;
    return kThread;
  }
  static bool get_thread(Dwfl*, pid_t, void* self, void** thread)
  {
    *thread = self;
    return true;
  }
  static bool read_memory(Dwfl*, Dwarf_Addr address, Dwarf_Word* word, void* arg)
  {
    const StackCopy& stack = *static_cast<Session*>(arg)->stack;
    const std::uint64_t offset = address - stack.registers[kStackPointer];
    if (offset > stack.bytes.size() || stack.bytes.size() - offset < sizeof *word) return false;
    std::memcpy(word, stack.bytes.data() + offset, sizeof *word);
    return true;
  }
  static bool set_registers(Dwfl_Thread* thread, void* arg)
  {
    const StackCopy& stack = *static_cast<Session*>(arg)->stack;
    std::array<Dwarf_Word, kSetRegisters> registers;
    std::copy_n(stack.registers.begin(), registers.size(), registers.begin());
    if (!dwfl_thread_state_registers(thread, 0, static_cast<unsigned>(registers.size()), registers.data()))
      return false;
    if (kProgramCounter >= kSetRegisters) dwfl_thread_state_register_pc(thread, stack.registers[kProgramCounter]);
    return true;
  }
  static int on_frame(Dwfl_Frame* frame, void* arg)
  {
    auto& self = *static_cast<Session*>(arg);
    Dwarf_Addr address = 0;
    // The first is where the thread was, whatever it is. Behind it, what is not code is a guess that went wrong.
    if (!dwfl_frame_pc(frame, &address, nullptr) ||
        (!self.frames.empty() && (address == 0 || !self.is_code(address - 1))))
      return DWARF_CB_ABORT;
    self.frames.push_back(address);
    return self.frames.size() < self.max_frames ? DWARF_CB_OK : DWARF_CB_ABORT;
  }
};

Unwinder::Unwinder(std::vector<Code> code, Image image) : session_(std::make_unique<Session>())
{
  static const Dwfl_Callbacks callbacks{Session::find_elf, Session::find_no_debuginfo, nullptr, nullptr};
  static const Dwfl_Thread_Callbacks thread_callbacks{
      Session::next_thread, Session::get_thread, Session::read_memory, Session::set_registers, nullptr, nullptr};
  Session& session = *session_;
  session.code = std::move(code);
  session.image = std::move(image);
  elf_version(EV_CURRENT);
  session.own_header = UnwindTables{}.image(0, 0);
  session.own_elf = Session::elf_of(session.own_header);
  session.dwfl = dwfl_begin(&callbacks);
  if (session.dwfl == nullptr || session.own_elf == nullptr) return;  // out of memory; unwind() gives the first address
  dwfl_report_begin(session.dwfl);
  for (const Code& part : session.code) {
    Dwfl_Module* module = dwfl_report_module(session.dwfl, "code", part.start, part.end);
    void** userdata = nullptr;
    if (module != nullptr && dwfl_module_info(module, &userdata, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr))
      *userdata = &session;
  }
  dwfl_report_end(session.dwfl, nullptr, nullptr);
  [[maybe_unused]] const bool attached =
      dwfl_attach_state(session.dwfl, session.own_elf, kThread, &thread_callbacks, &session);
  assert(attached);
}

Unwinder::~Unwinder()
{
  if (session_->dwfl != nullptr) dwfl_end(session_->dwfl);
  elf_end(session_->own_elf);
}

std::vector<std::uint64_t> Unwinder::unwind(const StackCopy& stack, std::size_t max_frames)
{
  if (stack.register_count < kRegisters || max_frames == 0) return {};
  Session& session = *session_;
  session.stack = &stack;
  session.max_frames = max_frames;
  session.frames.clear();
  if (session.dwfl != nullptr)
    dwfl_getthread_frames(session.dwfl, kThread, Session::on_frame, &session);  // an error: the end of what it found
  session.stack = nullptr;
  if (session.frames.empty()) session.frames.push_back(stack.registers[kProgramCounter]);
  return std::move(session.frames);
}

}  // namespace laggard::identify
