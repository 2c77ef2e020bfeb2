// SPDX-License-Identifier: MIT
#include "source/live/pair_probe.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "identify/clock.h"
#include "identify/process_maps.h"
#include "identify/symbols.h"
#include "source/live/host.h"
#include "source/records.h"

namespace laggard::source::live {
namespace {

using identify::CallingConvention;

// include/uapi/linux/bpf.h since 6.6; libbpf 1.1 has no words for it.
constexpr auto kTraceUprobeMulti = static_cast<bpf_attach_type>(48);
struct UprobeMultiLink {
  __u32 program_fd = 0, target_fd = 0, attach_type = kTraceUprobeMulti, flags = 0;
  __u64 path = 0, offsets = 0, ref_counter_offsets = 0, cookies = 0;
  __u32 count = 0, multi_flags = 0, pid = 0, padding = 0;
};

Fd create_multi_link(int program, const std::string& path, std::span<const std::uint64_t> offsets, std::span<const std::uint64_t> cookies)
{
  UprobeMultiLink attributes;
  attributes.program_fd = static_cast<__u32>(program);
  attributes.path = reinterpret_cast<__u64>(path.c_str());
  attributes.offsets = reinterpret_cast<__u64>(offsets.data());
  attributes.cookies = reinterpret_cast<__u64>(cookies.data());
  attributes.count = static_cast<__u32>(offsets.size());
  return Fd{static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof attributes))};
}

// A directory can carry no probe: EBADF says that the kernel understood everything else.
bool has_uprobe_multi(int program)
{
  constexpr std::array<std::uint64_t, 1> kNothing{};
  return program >= 0 && !create_multi_link(program, "/", kNothing, kNothing) && errno == EBADF;
}

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

Error cannot_attach(int error, bool by_perf_event)
{
  if (error != EPERM && error != EACCES)
    return {"cannot be probed", std::error_code(error, std::system_category())};
  return {by_perf_event ? "cannot be probed: USDT probes, and functions before Linux 6.6, take CAP_SYS_ADMIN, which is dropped after "
                          "loading unless --keep-privileges says otherwise"
                        : "cannot be probed: CAP_PERFMON is missing", {}};
}

constexpr std::string_view kUsdt = "usdt:";
bool is_usdt(const ProbeSpec& probe) { return probe.function.starts_with(kUsdt); }

// Half octaves: the spans of a rule, each twice as long as the one before, begin where a bucket does.
std::size_t age_bucket(std::uint64_t age_ns)
{
  const double halves = 2 * std::log2(static_cast<double>(std::max<std::uint64_t>(age_ns, 1)) / LAGGARD_PAIR_AGE_NS);
  return static_cast<std::size_t>(std::clamp(halves, 0.0, LAGGARD_PAIR_AGES - 1.0));
}

// Everything in a hash map, a thousand entries per system call.
template <class Key, class Value, class Take>
void each_entry(int map, Take take)
{
  std::vector<Key> keys(1024);
  std::vector<Value> values(keys.size());
  __u32 position = 0;
  for (bool first = true;; first = false) {
    auto count = static_cast<__u32>(keys.size());
    const int error = bpf_map_lookup_batch(map, first ? nullptr : &position, &position, keys.data(), values.data(), &count, nullptr);
    if (error != 0 && errno == ENOSPC) {  // a bucket with more than that
      keys.resize(keys.size() * 2);
      values.resize(keys.size());
      continue;
    }
    if (error != 0 && errno != ENOENT)
      return;
    for (__u32 i = 0; i < count; i++)
      take(keys[i], values[i]);
    if (error != 0)
      return;
  }
}

// What a Go function is an instance of spells out whole interfaces: "f[go.shape.interface { ... }]" is "f[...]".
std::string shorten_instance(const std::string& name)
{
  std::string text;
  int depth = 0;
  for (char c : name) {
    depth -= c == ']' && depth > 0;
    if (depth == 0)
      text += c;
    if (c == '[' && depth++ == 0)
      text += "...";
  }
  return text;
}

// Of a file without symbols, by the table of the Go runtime.
std::string go_function(const identify::ProcessDirectory& process, const std::vector<identify::Mapping>& maps, std::uint64_t address)
{
  const auto mapping = std::ranges::find_if(maps, [address](const identify::Mapping& m) { return m.start <= address && address < m.end; });
  if (mapping == maps.end() || !mapping->is_executable)
    return {};
  const auto file = process.open_mapped(*mapping);
  if (!file)
    return {};
  const auto table = identify::FunctionTable::open(fmt::format("/proc/self/fd/{}", file->get()));
  if (!table || table->calling_convention() != CallingConvention::Go)
    return {};  // others have code between their functions that is nobody's
  return table->at(address - mapping->start + mapping->file_offset);
}

}  // namespace

PairProbe::PairProbe(PairOptions options) : options_(std::move(options))
{
  for (PairSpec& spec : options_.pairs)
    pairs_.emplace_back().spec = std::move(spec);
  const HostFacts facts = host_facts();
  proc_is_the_hosts_ = facts.initial_pid_ns;
  sees_others_ = facts.has_sys_ptrace;
}

PairProbe::~PairProbe() = default;

Result<std::unique_ptr<PairProbe>> PairProbe::open(PairOptions options)
{
  if (options.pairs.size() > LAGGARD_MAX_PAIRS)
    return failure(fmt::format("{} pairs are more than the {} that can be probed at a time", options.pairs.size(), LAGGARD_MAX_PAIRS));
  std::unique_ptr<PairProbe> probe{new PairProbe(std::move(options))};
  const std::string& hook = probe->options_.hook;
  if (!hook.empty() && hook != "uprobe_multi" && hook != "uprobe")
    return failure(fmt::format("'{}' is no hook of pairs; known are uprobe_multi, uprobe", hook));
  if (auto loaded = probe->load(); !loaded)
    return tl::make_unexpected(loaded.error());
  probe->look_for_programs();
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
    bpf_program__set_autoload(skeleton_->progs.pair_uprobe, !multi);
    bpf_program__set_autoload(skeleton_->progs.pair_uprobe_multi, multi);
    bpf_program__set_expected_attach_type(skeleton_->progs.pair_uprobe_multi, kTraceUprobeMulti);
    const bool loaded = pairs_bpf__load(skeleton_.get()) == 0;
    const int error = errno;
    multi_ = multi && loaded && has_uprobe_multi(bpf_program__fd(skeleton_->progs.pair_uprobe_multi));
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
  return {};
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

void PairProbe::look_for_programs()
{
  looks_++;
  bool libraries = false;
  for (const Pair& pair : pairs_) {
    const PairSpec& spec = pair.spec;
    libraries |= spec.binary.find(".so") != std::string::npos;
    if (!spec.binary.starts_with('/'))
      continue;
    if (ProgramFile file; file_at(spec.binary, file))
      consider(file);
    else if (pair.files.empty())
      say(spec, spec.line, fmt::format("there is no file '{}' (yet)", spec.binary));
  }
  const ProgramsSeen seen = each_program(libraries, [this](const ProgramFile& file) { consider(file); });
  if (seen.unreadable > 0 && !sees_others_ && said_.insert("hidden").second)
    messages_.push_back(fmt::format("--pairs: programs of other users are not looked into ({} processes): CAP_SYS_PTRACE is missing",
                                    seen.unreadable));

  // A file that no process runs any more, at two looks, is let go: its disk may want to be unmounted.
  std::erase_if(seen_, [this](const auto& entry) { return entry.second.look + 2 <= looks_; });
  std::set<FileId> run;
  for (const auto& [_, one] : seen_)
    run.insert(one.id);
  for (Pair& pair : pairs_)
    std::erase_if(pair.files, [&run](const auto& entry) { return !run.contains(entry.first); });
}

// Each file is opened and read once, whatever asks for it. What fails because its process has just gone is tried again.
void PairProbe::consider(const ProgramFile& file)
{
  const auto [seen, is_new] = seen_.try_emplace({file.id, file.name});
  seen->second.look = looks_;
  const auto wants = [&file](const Pair& pair) { return !pair.stopped && is_wanted(pair.spec.binary, file); };
  if (!is_new || std::ranges::none_of(pairs_, wants))
    return;
  const OpenProgram program = open_program(file);
  if (!program.fd) {
    seen_.erase(seen);
    return;
  }
  seen->second.id = program.id;
  std::unique_ptr<identify::FunctionTable> table;  // opened by the first pair that needs it
  std::string trouble;
  for (std::size_t i = 0; i < pairs_.size(); i++) {
    Pair& pair = pairs_[i];
    if (!wants(pair) || pair.files.contains(program.id))
      continue;
    const bool must_have = pair.spec.binary.find('*') == std::string::npos;
    const auto all_usdt = [](const std::vector<ProbeSpec>& probes) { return std::ranges::all_of(probes, is_usdt); };
    const bool needs_table = !all_usdt(pair.spec.begins) || !all_usdt(pair.spec.ends) || !all_usdt(pair.spec.abandons);
    if (needs_table && !table && trouble.empty()) {
      auto opened = identify::FunctionTable::open(program.path());
      if (opened)
        table = std::make_unique<identify::FunctionTable>(std::move(*opened));
      else
        trouble = opened.error().message();
    }
    if (needs_table && !table) {
      pair.refused |= must_have;
      if (must_have)
        say(pair.spec, pair.spec.line, fmt::format("'{}' {}", file.name, trouble));
      continue;
    }
    auto attached = attach(i, file.name, program, table.get(), must_have);
    if (attached && *attached)
      pair.files.emplace(program.id, std::move(**attached));
    else
      pair.refused |= must_have;
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
    laggard_key_source& key = filled.keys[filled.parts++];
    const auto words = argument_words(convention);
    if (is_usdt(probe))
      key.position = source.argument - 1;
    else if (source.argument <= words.size())
      key.position = words[source.argument - 1];
    else
      return failure(fmt::format("gets only {} arguments in registers, arg{} is none of them", words.size(), source.argument));
    key.dereferenced = source.dereferenced_at.has_value();
    key.offset = source.dereferenced_at.value_or(0);
  }
  skeleton_->bss->probes[cookie] = filled;
  cookies_.emplace(std::pair{&probe, convention}, cookie);
  return cookie;
}

// Nothing: the file lacks a function, which was said if anybody should know.
Result<std::optional<PairProbe::Attached>> PairProbe::attach(std::size_t number, const std::string& name, const OpenProgram& program,
                                                             const identify::FunctionTable* table, bool must_have)
{
  const PairSpec& spec = pairs_[number].spec;
  const struct {
    std::uint32_t role;
    const std::vector<ProbeSpec>& probes;
  } roles[] = {{LAGGARD_PROBE_END, spec.ends}, {LAGGARD_PROBE_ABANDON, spec.abandons}, {LAGGARD_PROBE_BEGIN, spec.begins}};
  // In this order: what begins between two of these must not miss its end.
  Attached attached;
  std::vector<Point> points;
  bool begins = false;
  const bool is_meant = must_have || std::ranges::any_of(spec.begins, [&](const ProbeSpec& probe) {
    return !is_usdt(probe) && !table->find(probe.function).empty();
  });
  for (const auto& [role, probes] : roles) {
    for (const ProbeSpec& probe : probes) {
      const bool usdt = is_usdt(probe);
      const auto functions = usdt ? std::vector<identify::Function>{} : table->find(probe.function);
      if (usdt || !functions.empty()) {
        const auto cookie = cookie_of(number, probe, role, usdt ? CallingConvention::SystemV : table->calling_convention());
        if (!cookie) {
          say(spec, probe.line, fmt::format("'{}' in '{}' {}", probe.function, name, cookie.error().message()));
          return std::optional<Attached>{};
        }
        for (const identify::Function& function : functions)
          points.push_back({function.file_offset, *cookie});
        const auto found = usdt ? attach_usdt(attached, program.path(), probe, *cookie) : Result<bool>{true};
        if (!found)
          return tl::make_unexpected(found.error());
        if (*found) {
          begins |= role == LAGGARD_PROBE_BEGIN;
          continue;
        }
      }
      // Half a pair would accuse every program that has it. Of several begins one is enough.
      if (is_meant) {
        const auto similar = usdt ? std::vector<std::string>{} : table->similar(probe.function);
        say(spec, probe.line, fmt::format("'{}' has no {} '{}'{}", name, usdt ? "USDT probe" : "function", probe.function,
                                          similar.empty() ? "" : fmt::format("; similar: {}", fmt::join(similar, ", "))));
      }
      if (role != LAGGARD_PROBE_BEGIN)
        return std::optional<Attached>{};
    }
  }
  if (!begins)
    return std::optional<Attached>{};
  if (auto done = attach_functions(attached, program.path(), points); !done)
    return tl::make_unexpected(done.error());
  return attached;
}

// False: there is no such probe.
Result<bool> PairProbe::attach_usdt(Attached& to, const std::string& path, const ProbeSpec& probe, std::uint64_t cookie)
{
  const std::string name = probe.function.substr(kUsdt.size());
  const auto colon = name.find(':');
  LIBBPF_OPTS(bpf_usdt_opts, options);
  options.usdt_cookie = cookie;
  Link link{bpf_program__attach_usdt(skeleton_->progs.pair_usdt, -1, path.c_str(), name.substr(0, colon).c_str(),
                                     name.substr(colon + 1).c_str(), &options)};
  if (!link)
    return errno == ENOENT ? Result<bool>{false} : tl::make_unexpected(cannot_attach(errno, true));
  to.links.push_back(std::move(link));
  return true;
}

Result<void> PairProbe::attach_functions(Attached& to, const std::string& path, std::span<const Point> points)
{
  if (points.empty())
    return {};
  if (multi_) {
    std::vector<std::uint64_t> offsets, cookies;
    for (const Point& point : points) {
      offsets.push_back(point.offset);
      cookies.push_back(point.cookie);
    }
    to.multi_links.push_back(create_multi_link(bpf_program__fd(skeleton_->progs.pair_uprobe_multi), path, offsets, cookies));
    if (!to.multi_links.back())
      return tl::make_unexpected(cannot_attach(errno, false));
    return {};
  }
  for (const Point& point : points) {
    LIBBPF_OPTS(bpf_uprobe_opts, options);
    options.bpf_cookie = point.cookie;
    to.links.emplace_back(bpf_program__attach_uprobe_opts(skeleton_->progs.pair_uprobe, -1, path.c_str(), point.offset, &options));
    if (!to.links.back())
      return tl::make_unexpected(cannot_attach(errno, true));
  }
  return {};
}

bool PairProbe::detach_stopped()
{
  bool any = false;
  for (std::size_t i = 0; i < pairs_.size(); i++) {
    Pair& pair = pairs_[i];
    if (pair.stopped || skeleton_->bss->pairs[i].stopped == 0)
      continue;
    pair.stopped = any = true;
    pair.files.clear();
    say(pair.spec, pair.spec.line,
        fmt::format("its probes were hit more than {} times in a second and are detached: they would slow the program down "
                    "(--pairs-limit)", options_.hits_per_second));
  }
  return any;
}

// The connection of these operations is over, and they with it.
void PairProbe::forget_abandoned()
{
  // Less one part: what an operation shares with its connection.
  const auto connection_of = [](laggard_operation_key key) {
    key.key[1] = 0;
    return std::string(reinterpret_cast<const char*>(&key), sizeof key);
  };
  std::map<std::string, std::uint64_t> over;  // and when
  const int map = bpf_map__fd(skeleton_->maps.abandoned);
  each_entry<laggard_operation_key, std::uint64_t>(map, [&](const laggard_operation_key& key, std::uint64_t when) {
    over[connection_of(key)] = when;
    bpf_map_delete_elem(map, &key);
  });
  if (over.empty())
    return;
  const int operations = bpf_map__fd(skeleton_->maps.operations);
  each_entry<laggard_operation_key, laggard_operation>(operations, [&](const laggard_operation_key& key, const laggard_operation& operation) {
    const auto found = over.find(connection_of(key));
    if (found != over.end() && operation.begin_ns <= found->second && bpf_map_delete_elem(operations, &key) == 0)
      abandoned_[{key.tgid, key.start_ns, key.pair}] += operation.count;
  });
}

std::string PairProbe::stack_text(std::uint32_t tgid, std::uint64_t caller, std::int32_t stack)
{
  std::vector<std::uint64_t> addresses(LAGGARD_PAIR_FRAMES);
  if (stack < 0 || bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.stacks), &stack, addresses.data()) != 0)
    addresses.assign(1, 0);
  std::erase(addresses, 0U);
  if (caller != 0 && (addresses.size() < 2 || addresses[1] != caller))
    addresses.insert(addresses.begin() + (addresses.empty() ? 0 : 1), caller);
  auto symbols = identify::Symbols::open(tgid);
  const auto process = identify::ProcessDirectory::open(tgid, "/proc");
  const auto maps = process ? process->maps() : Result<std::vector<identify::Mapping>>{tl::make_unexpected(process.error())};
  if (!symbols || !maps)
    return {};
  std::string text;
  for (std::size_t i = 0; i < addresses.size(); i++) {
    const identify::Frame frame = symbols->resolve(addresses[i], i > 0);
    if (frame.symbol.empty() && frame.module.empty())
      break;  // frame pointers that are none lead nowhere
    const std::string module = frame.module.substr(frame.module.rfind('/') + 1);
    std::string name = frame.symbol.empty() ? go_function(*process, *maps, addresses[i] - (i > 0)) : frame.symbol;
    if (name.empty())
      name = fmt::format("{}+{:#x}", module, frame.module_offset);
    text += (text.empty() ? "" : "\n") + shorten_instance(name);
  }
  return text;
}

void PairProbe::collect(MonoTime now, std::uint32_t epoch, const IsAlive& is_alive, RawTick& into)
{
  struct Group {
    laggard_pair_record record{};
    std::uint32_t exec = 0;
    std::vector<laggard_operation> outstanding;
    std::uint64_t last_ended_begin_ns = 0;
  };
  naming_cpu_ = {};
  forget_abandoned();
  const auto now_ns = static_cast<std::uint64_t>(now.time_since_epoch().count());
  std::map<ProcessPair, Group> groups;
  std::vector<laggard_pair_key> gone;
  each_entry<laggard_pair_key, laggard_pair_totals>(bpf_map__fd(skeleton_->maps.totals), [&](const laggard_pair_key& key,
                                                                                              const laggard_pair_totals& sums) {
    if (key.pair >= pairs_.size() || pairs_[key.pair].stopped || !is_alive(key.tgid, key.start_ns)) {
      gone.push_back(key);
      return;
    }
    Group& group = groups[{key.tgid, key.start_ns, key.pair}];
    // Another program has taken the process over: what the one before it left open never ends.
    if (group.record.tgid != 0) {
      laggard_pair_key older = key;
      older.exec = std::min(key.exec, group.exec);
      gone.push_back(older);
      if (key.exec < group.exec)
        return;
    }
    group = {};
    group.exec = key.exec;
    laggard_pair_record& record = group.record;
    record.header = {LAGGARD_RECORD_PAIR, sizeof record, epoch};
    record.start_ns = key.start_ns;
    record.mono_ns = now_ns;
    record.begun = sums.begun;
    record.ended = sums.ended;
    record.unmatched = sums.unmatched;
    record.lost = sums.lost;
    record.unreadable = sums.unreadable;
    record.last_end_ns = sums.last_end_ns;
    record.slowest_ns = sums.slowest_ns;
    record.tgid = key.tgid;
    copy_text(record.name, pairs_[key.pair].spec.name);
    group.last_ended_begin_ns = sums.last_ended_begin_ns;
  });
  for (auto& [key, group] : groups)
    if (const auto abandoned = abandoned_.find(key); abandoned != abandoned_.end())
      group.record.ended += abandoned->second;

  const int operations = bpf_map__fd(skeleton_->maps.operations);
  each_entry<laggard_operation_key, laggard_operation>(operations, [&](const laggard_operation_key& key, const laggard_operation& operation) {
    const auto group = groups.find({key.tgid, key.start_ns, key.pair});
    if (group == groups.end() || key.exec < group->second.exec)
      bpf_map_delete_elem(operations, &key);
    else if (static_cast<std::int32_t>(operation.count) > 0 &&  // less for an instant, where two CPUs end one operation
             operation.begin_ns <= now_ns)                       // as old as the totals
      group->second.outstanding.push_back(operation);
  });
  for (const laggard_pair_key& key : gone) {
    bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.totals), &key);
    if (groups.contains({key.tgid, key.start_ns, key.pair}))
      continue;
    std::erase_if(stacks_, [&key](const auto& entry) { return std::get<0>(entry.first) == key.tgid; });
    abandoned_.erase({key.tgid, key.start_ns, key.pair});
  }

  for (auto& [_, group] : groups) {
    tell_outstanding(group.outstanding, group.last_ended_begin_ns, now_ns, group.record);
    const auto* bytes = reinterpret_cast<const std::byte*>(&group.record);
    into.insert(into.end(), bytes, bytes + sizeof group.record);
  }
  if (skeleton_->bss->uncounted > 0 && said_.insert("uncounted").second)
    messages_.push_back("--pairs: more processes, or more connections that end at a time, than there is room for: some are not counted");
}

void PairProbe::tell_outstanding(std::span<const laggard_operation> outstanding, std::uint64_t last_ended_begin_ns, std::uint64_t now_ns,
                                 laggard_pair_record& record)
{
  const auto is_overtaken = [last_ended_begin_ns](const laggard_operation& operation) {
    return operation.shared == 0 && operation.begin_ns < last_ended_begin_ns;
  };
  const bool any_overtaken = std::ranges::any_of(outstanding, is_overtaken);
  std::map<std::pair<std::uint64_t, std::int32_t>, std::uint32_t> stacks;
  for (const laggard_operation& operation : outstanding) {
    if (record.oldest_begin_ns == 0 || operation.begin_ns < record.oldest_begin_ns)
      record.oldest_begin_ns = operation.begin_ns;
    const std::size_t bucket = age_bucket(now_ns > operation.begin_ns ? now_ns - operation.begin_ns : 0);
    const bool overtaken = is_overtaken(operation);
    (overtaken ? record.overtaken[bucket] : record.waiting[bucket]) += operation.count;
    record.outstanding += operation.count;
    // Those in flight came from somewhere, too: not of them the stack that is shown.
    if (overtaken || !any_overtaken)
      stacks[{operation.caller, operation.stack}] += operation.count;
  }
  // Only what has lasted for a second is worth a name.
  if (record.outstanding < 2 || now_ns < record.oldest_begin_ns + 1'000'000'000 || !proc_is_the_hosts_)
    return;
  const auto most = std::max_element(stacks.begin(), stacks.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto [caller, stack] = most->first;
  const auto key = std::tuple(record.tgid, record.start_ns, caller, stack);
  auto text = stacks_.find(key);
  if (text == stacks_.end()) {
    if (naming_cpu_ > Duration{})
      return;  // one at a time: it reads symbol tables
    const Duration before = identify::thread_cpu();
    text = stacks_.emplace(key, stack_text(record.tgid, caller, stack)).first;
    naming_cpu_ = identify::thread_cpu() - before;
  }
  record.stack_count = most->second;
  copy_text(record.stack, text->second);
}

}  // namespace laggard::source::live
