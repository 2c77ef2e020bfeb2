// SPDX-License-Identifier: MIT
#include "source/live/pair_probe.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "identify/clock.h"
#include "source/live/host.h"

namespace laggard::source::live {
namespace {

using identify::CallingConvention;

constexpr std::size_t kMostProcesses = 256;    // that a pair is attached to one by one
constexpr std::size_t kMostKnownFiles = 65536;  // mapped ones; then all are new again
constexpr Duration kPatience = std::chrono::seconds(20);  // for what runs already, before the first look

// Which word of struct pt_regs the Nth integer argument is in; empty: not in a register.
std::span<const __u32> argument_words(CallingConvention convention)
{
#if defined(__x86_64__)
  // arch/x86/include/asm/ptrace.h. System V: di si dx cx r8 r9. Go (abi-internal.md): ax bx cx di si r8 r9 r10 r11.
  static constexpr std::array<__u32, 6> kSystemV = {14, 13, 12, 11, 9, 8};
  static constexpr std::array<__u32, 9> kGo = {10, 5, 11, 14, 13, 9, 8, 7, 6};
  if (convention == CallingConvention::Go)
    return kGo;
  return kSystemV;
#else
  static constexpr std::array<__u32, 16> kWords = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return std::span(kWords).first(convention == CallingConvention::Go ? 16 : 8);
#endif
}

bool is_usdt(const ProbeSpec& probe) { return probe.function.starts_with(kUsdt); }
bool needs_table(const PairSpec& spec)
{
  for (const auto* probes : {&spec.begins, &spec.ends, &spec.abandons})
    if (!std::ranges::all_of(*probes, is_usdt))
      return true;
  return false;
}

// Errors: a clause that follows a function's name.
Result<laggard_key_source> place_of(const KeySource& source, bool usdt, CallingConvention convention)
{
  laggard_key_source place{};
  const auto words = argument_words(convention);
  if (source.argument == KeySource::kReturned)
    place.position = LAGGARD_RETURNED;
  else if (usdt)
    place.position = source.argument - 1;
  else if (source.argument <= words.size())
    place.position = words[source.argument - 1];
  else
    return failure(fmt::format("gets only {} arguments in registers, arg{} is none of them", words.size(), source.argument));
  place.dereferenced = source.dereferenced_at.has_value();
  place.offset = source.dereferenced_at.value_or(0);
  return place;
}

Result<void> add_condition(const Condition& condition, CallingConvention convention, laggard_probe& to)
{
  static_assert(static_cast<__u32>(Condition::Compare::AtLeast) == LAGGARD_AT_LEAST && static_cast<__u32>(Condition::Compare::Less) == LAGGARD_LESS);
  const auto place = place_of(condition.value, false, convention);
  if (!place)
    return tl::make_unexpected(place.error());
  to.conditions[to.conditions_count++] = {*place, condition.than, static_cast<__u32>(condition.compare), condition.is_int};
  return {};
}

std::string comm_of(std::uint32_t tgid)
{
  std::string comm;
  std::getline(std::ifstream(fmt::format("/proc/{}/comm", tgid)), comm);
  return comm;
}

}  // namespace

PairProbe::PairProbe(PairOptions options, std::unique_ptr<ElfReader> reader) : options_(std::move(options)), reader_(std::move(reader))
{
  for (PairSpec& spec : options_.pairs)
    pairs_.emplace_back().spec = std::move(spec);
  const HostFacts facts = host_facts();
  proc_is_the_hosts_ = facts.initial_pid_ns;
  sees_others_ = facts.has_sys_ptrace;
}

PairProbe::~PairProbe() = default;

Result<std::unique_ptr<PairProbe>> PairProbe::open(PairOptions options, std::unique_ptr<ElfReader> reader)
{
  if (options.pairs.size() > LAGGARD_MAX_PAIRS)
    return failure(fmt::format("{} pairs are more than the {} that can be probed at a time", options.pairs.size(), LAGGARD_MAX_PAIRS));
  std::unique_ptr<PairProbe> probe{new PairProbe(std::move(options), std::move(reader))};
  const std::string& hook = probe->options_.hook;
  if (!hook.empty() && hook != "uprobe_multi" && hook != "uprobe")
    return failure(fmt::format("'{}' is no hook of pairs; known are uprobe_multi, uprobe", hook));
  if (auto loaded = probe->load(); !loaded)
    return tl::make_unexpected(loaded.error());
  if (auto listening = probe->listen(); !listening)
    return tl::make_unexpected(listening.error());
  const MonoTime end = identify::monotonic_now() + kPatience;
  do {
    probe->left_some_ = false;
    probe->look_for_programs();
    probe->settle(end - identify::monotonic_now());
  } while (probe->left_some_ && identify::monotonic_now() < end);
  return probe;
}

Result<void> PairProbe::load()
{
  for (const bool multi : {true, false}) {
    if (options_.hook == (multi ? "uprobe" : "uprobe_multi"))
      continue;
    // As in loader.cpp: the kernel's own BTF only, else libbpf wants CAP_SYS_ADMIN.
    LIBBPF_OPTS(bpf_object_open_opts, options);
    options.btf_custom_path = "/sys/kernel/btf/vmlinux";
    skeleton_.reset(pairs_bpf__open_opts(&options));
    if (!skeleton_)
      return errno_failure("cannot open the BPF object of --pairs");
    for (bpf_program* program : {skeleton_->progs.pair_uprobe, skeleton_->progs.pair_uretprobe})
      bpf_program__set_autoload(program, !multi);
    for (bpf_program* program : {skeleton_->progs.pair_uprobe_multi, skeleton_->progs.pair_uretprobe_multi}) {
      bpf_program__set_autoload(program, multi);
      bpf_program__set_expected_attach_type(program, PairLinks::kTraceUprobeMulti);
    }
    const bool loaded = pairs_bpf__load(skeleton_.get()) == 0;
    const int error = errno;
    multi_ = multi && loaded && PairLinks::has_uprobe_multi(bpf_program__fd(skeleton_->progs.pair_uprobe_multi));
    if (loaded && multi_ == multi)
      break;
    skeleton_.reset();
    if (!multi || !options_.hook.empty())
      return multi && loaded ? failure("this kernel has no uprobe_multi (since 6.6)")
                             : errno_failure("the kernel refuses the probes of --pairs", error);
  }
  skeleton_->bss->hits_per_second_limit = options_.hits_per_second;
  for (std::size_t i = 0; i < pairs_.size(); i++)
    skeleton_->bss->pairs[i].ignore_repeats = pairs_[i].spec.ignore_repeats;
  operations_ = std::make_unique<PairOperations>(*skeleton_, *reader_, proc_is_the_hosts_);
  return {};
}

Result<void> PairProbe::listen()
{
  const auto keep = [](void* probe, void* data, std::size_t size) {
    laggard_pair_stop stop{};
    std::memcpy(&stop, data, std::min(size, sizeof stop));
    static_cast<PairProbe*>(probe)->too_often_.push_back(stop);
    return 0;
  };
  stops_.reset(ring_buffer__new(bpf_map__fd(skeleton_->maps.stops), keep, this, nullptr));
  if (!stops_)
    return errno_failure("cannot map the ring buffer of --pairs");
  if (pairs_.empty())
    return {};
  auto maps = MapWatch::open([this](const MapWatch::Mapped& mapped) {
    const bool by_process = std::ranges::any_of(pairs_, &Pair::by_process);
    if (known_files_.size() >= kMostKnownFiles)
      known_files_.clear();
    if (mapped.inode == 0 || (!known_files_.emplace(mapped.device, mapped.inode).second && !by_process))
      return;
    // Executable or library: who maps it will tell.
    ProgramFile program{{}, {}, std::string(mapped.name), false, mapped.tgid}, library = program;
    library.is_library = true;
    if (std::ranges::any_of(pairs_, [&](const Pair& pair) {
          return !pair.stopped && (is_wanted(pair.spec.binary, program) || is_wanted(pair.spec.binary, library));
        }))
      mapped_something_.insert(mapped.tgid);
  });
  if (maps)
    maps_ = std::move(*maps);
  else
    messages_.push_back(fmt::format("--pairs: programs and libraries that are started or loaded later are met by walks over processes, some "
                                    "seconds late, and what they began before is not counted: {}", maps.error().message()));
  return {};
}

std::vector<int> PairProbe::event_fds() const
{
  std::vector<int> fds = {ring_buffer__epoll_fd(stops_.get())};
  if (maps_)
    fds.push_back(maps_->fd());
  fds.push_back(reader_->fd());
  return fds;
}

void PairProbe::say(const PairSpec& spec, std::uint32_t line, const std::string& what)
{
  std::string message = fmt::format("{}:{}: pair '{}': {}", spec.file, line, spec.name, what);
  if (said_.insert(message).second)
    messages_.push_back(std::move(message));
}

std::size_t PairProbe::usable() const
{
  return static_cast<std::size_t>(
      std::ranges::count_if(pairs_, [](const Pair& pair) { return !pair.stopped && (!pair.files.empty() || !pair.refused); }));
}

bool PairProbe::wants_libraries() const
{
  return std::ranges::any_of(pairs_, [](const Pair& pair) { return pair.spec.binary.find(".so") != std::string::npos; });
}

Libraries PairProbe::libraries() const
{
  if (!wants_libraries())
    return Libraries::None;
  return std::ranges::any_of(pairs_, &Pair::by_process) ? Libraries::OncePerProcess : Libraries::OncePerFile;
}

void PairProbe::look_for_programs()
{
  looks_++;
  for (const Pair& pair : pairs_) {
    const PairSpec& spec = pair.spec;
    if (!spec.binary.starts_with('/') || pair.by_process)
      continue;
    if (ProgramFile file; file_at(spec.binary, file))
      consider(file);
    else if (pair.files.empty())
      say(spec, spec.line, fmt::format("there is no file '{}' (yet)", spec.binary));
  }
  std::set<std::uint32_t> running;
  const ProgramsSeen seen = each_program(libraries(), [&](const ProgramFile& file) {
    running.insert(file.tgid);
    consider(file);
  });
  if (seen.unreadable > 0 && !sees_others_ && said_.insert("hidden").second)
    messages_.push_back(fmt::format("--pairs: programs of other users are not looked into ({} processes): CAP_SYS_PTRACE is missing",
                                    seen.unreadable));

  // A file that no process runs any more, at two looks, is let go: its disk may want to be unmounted.
  std::erase_if(seen_, [this](const auto& entry) { return entry.second.look + 2 <= looks_; });
  std::set<FileId> run;
  for (const auto& [_, one] : seen_)
    run.insert(one.id);
  for (Pair& pair : pairs_) {
    std::erase_if(pair.files, [&run](const auto& entry) { return !run.contains(entry.first); });
    for (auto& [_, attached] : pair.files)
      std::erase_if(attached.links, [&running](const auto& entry) { return entry.first != 0 && !running.contains(entry.first); });
    std::erase_if(pair.spared, [&running](std::uint32_t tgid) { return !running.contains(tgid); });
    // "*" is whatever has the functions. Who gives a name means it.
    if (!pair.files.empty() || pair.is_anybodys() || pair.spec.binary.starts_with('/'))
      continue;
    const bool is_met = std::ranges::any_of(seen_, [&pair](const auto& entry) {
      const auto& [id, name, is_library] = entry.first;
      return is_wanted(pair.spec.binary, {{}, {}, name, is_library, 0});
    });
    if (!is_met)
      say(pair.spec, pair.spec.line, fmt::format("no process runs '{}' (yet)", pair.spec.binary));
  }
  reader_->take();
}

void PairProbe::look_at_events()
{
  reader_->take();
  ring_buffer__consume(stops_.get());
  for (const laggard_pair_stop& stop : std::exchange(too_often_, {}))
    spare(stop);
  if (maps_)
    maps_->take();
  for (const std::uint32_t tgid : std::exchange(mapped_something_, {}))
    each_program_of(tgid, wants_libraries(), [this](const ProgramFile& file) { consider(file); });
  reader_->take();
}

// Each file is opened and read once, whatever asks for it. What fails because its process has just gone is tried again.
void PairProbe::consider(const ProgramFile& file)
{
  const auto wants = [&file](const Pair& pair) { return !pair.stopped && is_wanted(pair.spec.binary, file); };
  const auto [seen, is_new] = seen_.try_emplace({file.id, file.name, file.is_library});
  seen->second.look = looks_;
  if (std::ranges::none_of(pairs_, wants))
    return;
  if (is_new && !read_new(file)) {
    seen_.erase(seen);
    return;
  }
  for (Pair& pair : pairs_)
    if (pair.by_process && wants(pair))
      attach_to_process(pair, seen->second.id, file);
}

// False: not now.
bool PairProbe::read_new(const ProgramFile& file)
{
  left_some_ |= reader_->is_full();
  const auto program = std::make_shared<const OpenProgram>(reader_->is_full() ? OpenProgram{} : open_program(file));
  if (!program->fd)
    return false;
  seen_[{file.id, file.name, file.is_library}].id = program->id;
  std::vector<WantedFunctions> wanted;
  for (const Pair& pair : pairs_) {
    if (pair.stopped || !is_wanted(pair.spec.binary, file))
      continue;
    WantedFunctions& one = wanted.emplace_back();
    one.is_meant = !pair.is_anybodys();
    for (const auto* probes : {&pair.spec.begins, &pair.spec.ends, &pair.spec.abandons})
      for (const ProbeSpec& probe : *probes)
        (probes == &pair.spec.begins ? one.begins : one.others).push_back(probe.function);
  }
  reader_->find_functions(program->fd.get(), wanted, [this, file, program](const Result<FileFunctions>& functions) {
    attach_new(file, *program, functions);
  });
  return true;
}

void PairProbe::attach_new(const ProgramFile& file, const OpenProgram& program, const Result<FileFunctions>& functions)
{
  for (std::size_t i = 0; i < pairs_.size(); i++) {
    Pair& pair = pairs_[i];
    if (pair.stopped || !is_wanted(pair.spec.binary, file) || pair.files.contains(program.id))
      continue;
    // An absolute path is one file, which may be wrong. Behind a pattern another file may be right.
    const bool is_one_file = pair.spec.binary.find('*') == std::string::npos;
    const std::string trouble = !functions ? functions.error().message() : needs_table(pair.spec) ? functions->trouble : "";
    if (!trouble.empty()) {
      pair.refused |= is_one_file;
      if (!pair.is_anybodys())
        say(pair.spec, pair.spec.line, fmt::format("'{}' {}", file.name, trouble));
      continue;
    }
    auto attached = attach(i, file.name, program, *functions, pair.by_process ? file.tgid : 0);
    if (attached && *attached)
      pair.files.emplace(program.id, std::move(**attached));
    else
      pair.refused |= is_one_file;
    if (!attached)
      say(pair.spec, pair.spec.line, fmt::format("'{}' {}", file.name, attached.error().message()));
  }
}

// An index into `probes`, once for each function and calling convention.
Result<std::uint64_t> PairProbe::cookie_of(std::size_t number, const ProbeSpec& probe, std::uint32_t role, CallingConvention convention)
{
  const auto known = cookies_.find({&probe, convention});
  if (known != cookies_.end())
    return known->second;
  const std::uint64_t cookie = cookies_.size();
  if (cookie >= LAGGARD_MAX_PROBES)
    return failure(fmt::format("has more functions to probe than the {} that there is room for", LAGGARD_MAX_PROBES));
  laggard_probe filled{};
  filled.pair = static_cast<__u32>(number);
  filled.role = role;
  for (const KeySource& source : probe.keys) {
    const auto place = place_of(source, is_usdt(probe), convention);
    if (!place)
      return tl::make_unexpected(place.error());
    filled.keys[filled.parts++] = *place;
  }
  std::vector<Condition> conditions = probe.only_if;
  if (probe.failed) {
    conditions.push_back(*probe.failed);
    filled.role = LAGGARD_PROBE_TRY;
  }
  if (probe.begins_at_return()) {
    filled.role = LAGGARD_PROBE_CALL;
    if (probe.failed) {
      using enum Condition::Compare;
      static constexpr Condition::Compare kOpposites[] = {NotEqual, Equal, AtLeast, More, AtMost, Less};
      conditions.back().compare = kOpposites[static_cast<std::size_t>(probe.failed->compare)];
    }
    const auto returned = std::ranges::find(probe.keys, KeySource::kReturned, &KeySource::argument);
    if (returned != probe.keys.end())
      conditions.push_back({{KeySource::kReturned, {}}, false, Condition::Compare::NotEqual, 0});
  }
  for (const Condition& condition : conditions)
    if (auto added = add_condition(condition, convention, filled); !added)
      return tl::make_unexpected(added.error());
  skeleton_->bss->probes[cookie] = filled;
  cookies_.emplace(std::pair{&probe, convention}, cookie);
  return cookie;
}

// False: the file has no such function, or it cannot be probed as asked, which was said.
Result<bool> PairProbe::find(Attached& to, std::size_t number, std::uint32_t role, const ProbeSpec& probe, const std::string& name,
                             const FileFunctions& functions)
{
  const bool usdt = is_usdt(probe);
  const auto found = functions.offsets.find(probe.function);
  if (usdt ? !functions.usdts.contains(probe.function) : found == functions.offsets.end() || found->second.empty())
    return false;
  const PairSpec& spec = pairs_[number].spec;
  const CallingConvention convention = usdt ? CallingConvention::SystemV : functions.convention;
  const bool at_return = probe.failed || probe.begins_at_return();
  if (at_return && convention == CallingConvention::Go) {
    say(spec, probe.line, fmt::format("'{}' is a Go program, whose stacks move: what its functions return cannot be asked for", name));
    return failure("");
  }
  const auto cookie = cookie_of(number, probe, role, convention);
  if (!cookie) {
    say(spec, probe.line, fmt::format("'{}' in '{}' {}", probe.function, name, cookie.error().message()));
    return failure("");
  }
  if (usdt) {
    const std::string full = probe.function.substr(kUsdt.size());
    const auto colon = full.find(':');
    to.usdts.push_back({full.substr(0, colon), full.substr(colon + 1), *cookie});
  } else {
    for (const std::uint64_t offset : found->second)
      to.functions.push_back({offset, *cookie, at_return});
  }
  return true;
}

// Nothing: the file lacks a function, which was said if anybody should know.
Result<std::optional<PairProbe::Attached>> PairProbe::attach(std::size_t number, const std::string& name, const OpenProgram& program,
                                                             const FileFunctions& functions, std::uint32_t tgid)
{
  const Pair& pair = pairs_[number];
  const PairSpec& spec = pair.spec;
  const struct {
    std::uint32_t role;
    const std::vector<ProbeSpec>& probes;
  } roles[] = {{LAGGARD_PROBE_END, spec.ends}, {LAGGARD_PROBE_ABANDON, spec.abandons}, {LAGGARD_PROBE_BEGIN, spec.begins}};
  // In this order: what begins between two of these must not miss its end.
  Attached attached;
  PairLinks links{*skeleton_, multi_};
  bool begins = false;
  const bool is_meant = !pair.is_anybodys() || std::ranges::any_of(spec.begins, [&](const ProbeSpec& probe) {
    const auto found = functions.offsets.find(probe.function);
    return found != functions.offsets.end() && !found->second.empty();
  });
  for (const auto& [role, probes] : roles) {
    for (const ProbeSpec& probe : probes) {
      auto found = find(attached, number, role, probe, name, functions);
      if (!found)
        return std::optional<Attached>{};
      if (*found && is_usdt(probe)) {
        found = links.attach(program.path(), attached.usdts.back(), tgid);
        if (!found)
          return tl::make_unexpected(found.error());
        if (!*found)
          attached.usdts.pop_back();
      }
      if (*found) {
        begins |= role == LAGGARD_PROBE_BEGIN;
        continue;
      }
      // Half a pair would accuse every program that has it. Of several begins one is enough.
      if (is_meant) {
        const auto similar = functions.similar_to.find(probe.function);
        const bool has_similar = similar != functions.similar_to.end() && !similar->second.empty();
        say(spec, probe.line, fmt::format("'{}' has no {} '{}'{}", name, is_usdt(probe) ? "USDT probe" : "function", probe.function,
                                          has_similar ? fmt::format("; similar: {}", fmt::join(similar->second, ", ")) : ""));
      }
      if (role != LAGGARD_PROBE_BEGIN)
        return std::optional<Attached>{};
    }
  }
  if (!begins)
    return std::optional<Attached>{};
  if (auto done = links.attach(program.path(), attached.functions, tgid); !done)
    return tl::make_unexpected(done.error());
  attached.links.emplace(tgid, std::move(links));
  return attached;
}

// Once more, to a process of its own.
Result<void> PairProbe::link(Attached& to, const std::string& path, std::uint32_t tgid)
{
  PairLinks links{*skeleton_, multi_};
  for (const PairLinks::Usdt& usdt : to.usdts)
    if (auto done = links.attach(path, usdt, tgid); !done)
      return tl::make_unexpected(done.error());
  if (auto done = links.attach(path, to.functions, tgid); !done)
    return done;
  to.links.emplace(tgid, std::move(links));
  return {};
}

void PairProbe::attach_to_process(Pair& pair, const FileId& id, const ProgramFile& file)
{
  const auto attached = pair.files.find(id);
  if (attached == pair.files.end() || file.tgid == 0 || pair.spared.contains(file.tgid) || attached->second.links.contains(file.tgid))
    return;
  if (attached->second.links.size() > kMostProcesses) {
    say(pair.spec, pair.spec.line, fmt::format("more than {} processes run '{}': the others are not probed", kMostProcesses, file.name));
    return;
  }
  const OpenProgram program = open_program(file);
  if (!program.fd)
    return;
  if (auto done = link(attached->second, program.path(), file.tgid); !done) {
    pair.refuses_processes = true;
    say(pair.spec, pair.spec.line, fmt::format("'{}', where only some processes are probed, {}", file.name, done.error().message()));
  }
}

// A probe on a file traps every process that runs it. So that one is spared the others are attached to one by one; until all are,
// only the hits by the old links count, and from then on only those by the new. False: it cannot be done here.
bool PairProbe::probe_by_process(std::size_t number)
{
  Pair& pair = pairs_[number];
  if (!proc_is_the_hosts_)
    return false;
  pair.by_process = true;
  each_program(libraries(), [this](const ProgramFile& file) { consider(file); });
  if (pair.refuses_processes)
    return false;
  skeleton_->bss->pairs[number].by_process = 1;
  for (auto& [_, attached] : pair.files)
    attached.links.erase(0);
  return true;
}

void PairProbe::spare(const laggard_pair_stop& stop)
{
  if (stop.pair >= pairs_.size() || pairs_[stop.pair].stopped)
    return;
  Pair& pair = pairs_[stop.pair];
  pair.spared.insert(stop.tgid);
  const std::string what = fmt::format("its probes were hit more than {} times in a second by process {} ({}), which they would slow down",
                                       options_.hits_per_second, stop.tgid, comm_of(stop.tgid));
  if (pair.by_process) {
    for (auto& [_, attached] : pair.files)
      attached.links.erase(stop.tgid);
  } else if (!probe_by_process(stop.pair)) {
    pair.stopped = true;
    pair.files.clear();
    say(pair.spec, pair.spec.line, what + ": they are detached (--pairs-limit)");
    return;
  }
  say(pair.spec, pair.spec.line, what + ": this process is probed no more (--pairs-limit)");
}

void PairProbe::collect(MonoTime now, std::uint32_t epoch, const PairOperations::IsAlive& is_alive, RawTick& into)
{
  std::vector<const PairSpec*> specs;
  for (const Pair& pair : pairs_)
    specs.push_back(pair.stopped ? nullptr : &pair.spec);
  operations_->collect(now, epoch, specs, is_alive, into);
  reader_->take();
  if (std::string why = operations_->take_trouble(); !why.empty() && said_.insert("unnamed").second)
    messages_.push_back(std::move(why));
  if (operations_->uncounted() > 0 && said_.insert("uncounted").second)
    messages_.push_back("--pairs: more processes, or more connections at a time, than there is room for: some are not counted");
}

}  // namespace laggard::source::live
