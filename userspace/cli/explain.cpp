// SPDX-License-Identifier: MIT
// laggard explain: with what the memory of one process grows, now, and where in its code.
#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/connection_id.h"
#include "cli/live_loop.h"
#include "cli/session.h"
#include "detect/memory.h"
#include "source/decode.h"
#include "source/live/elf_reader.h"
#include "source/live/host.h"

namespace laggard::cli {
namespace {

using output::Explanation;

constexpr Duration kDefaultDuration = std::chrono::seconds(10);
// At most this many stacks are copied, spread over the time: each is 16 KiB.
constexpr int kMaxStacks = 500;
constexpr Duration kDrainInterval = std::chrono::milliseconds(100);
constexpr std::size_t kShownStacks = 5;
constexpr std::size_t kShownFrames = 16;

// Stacks as they come: unwound at once, named at the end.
class StackCollector {
 public:
  explicit StackCollector(source::live::ElfSymbols* symbols) : symbols_(symbols) {}

  void stack(const laggard_stack_sample& sample)
  {
    Taken taken{sample.cookie, sample.pages, sample.in_syscall != 0, false, {}};
    if (symbols_ != nullptr) {
      identify::StackCopy copy;
      copy.register_count = std::min<std::size_t>(sample.register_count, copy.registers.size());
      std::copy_n(std::begin(sample.registers), copy.register_count, copy.registers.begin());
      const std::uint64_t skipped = copy.registers[identify::kStackPointer] - sample.stack_address;
      if (skipped < sample.stack_bytes && sample.stack_bytes <= sizeof sample.stack) {
        const auto* bytes = reinterpret_cast<const std::byte*>(sample.stack);
        copy.bytes.assign(bytes + skipped, bytes + sample.stack_bytes);
      }
      taken.addresses = symbols_->unwind(copy, kShownFrames);
    }
    stacks_[sample.id] = std::move(taken);
  }

  // The system call that the sample interrupted was a read of this socket.
  void owner(const laggard_stack_owner& owner)
  {
    if (auto found = stacks_.find(owner.id); found != stacks_.end()) {
      found->second.cookie = owner.cookie;
      found->second.is_read = true;
    }
  }

  // Names all addresses. Those of before an exec are another program's now, so the mappings of the beginning are asked
  // first, and today's only for what they do not know: code that was loaded since. Of a process that exited there are none.
  void name(bool exited, std::vector<std::string>& missing)
  {
    if (symbols_ == nullptr)
      return;
    bool is_unknown = false;
    for (const auto& [id, taken] : stacks_)
      for (std::size_t i = 0; i < taken.addresses.size(); i++) {
        const auto [frame, is_new] = names_.try_emplace({taken.addresses[i], i > 0});
        if (is_new)
          frame->second = symbols_->resolve(taken.addresses[i], i > 0);
        is_unknown = is_unknown || frame->second.module.empty();
      }
    if (!is_unknown)
      return;
    if (exited) {
      missing.push_back("the process is gone: what was no file's code when the observation began has addresses only");
      return;
    }
    if (auto mapped = symbols_->remap(); !mapped) {
      missing.push_back(mapped.error().message());
      return;
    }
    for (auto& [asked, frame] : names_)
      if (frame.module.empty())
        frame = symbols_->resolve(asked.first, asked.second);
  }

  // After name(). Equal chains of functions are one stack; most bytes first. `traced_bytes`: what all samples together stand for.
  std::vector<Explanation::Stack> summarize(std::uint64_t traced_bytes) const
  {
    std::map<std::tuple<Explanation::Where, std::uint64_t, std::vector<std::string>>, Explanation::Stack> stacks;
    std::uint64_t pages = 0;
    for (const auto& [id, taken] : stacks_) {
      pages += taken.pages;
      Explanation::Stack one;
      one.where = taken.in_syscall ? taken.is_read ? Explanation::Where::WithinRead : Explanation::Where::OtherSystemCall
                  : taken.cookie != 0 ? Explanation::Where::AfterRead : Explanation::Where::NoSocket;
      one.cookie = taken.cookie;
      std::vector<std::string> functions;
      for (std::size_t i = 0; i < taken.addresses.size(); i++) {
        one.frames.push_back(frame_of(taken.addresses[i], i > 0));
        const Explanation::Frame& frame = one.frames.back();
        functions.push_back(frame.symbol.empty() ? fmt::format("{}+{:#x}", frame.module, frame.module_offset) : frame.symbol);
      }
      auto& sum = stacks.try_emplace({one.where, one.cookie, std::move(functions)}, one).first->second;
      sum.bytes += taken.pages;
      sum.samples++;
    }
    std::vector<Explanation::Stack> result;
    for (auto& [key, stack] : stacks) {
      stack.bytes = pages > 0 ? stack.bytes * traced_bytes / pages : 0;
      result.push_back(std::move(stack));
    }
    std::ranges::stable_sort(result, std::greater{}, &Explanation::Stack::bytes);
    return result;
  }

 private:
  struct Taken {
    std::uint64_t cookie = 0;
    std::uint64_t pages = 0;
    bool in_syscall = false;
    bool is_read = false;
    std::vector<std::uint64_t> addresses;
  };

  Explanation::Frame frame_of(std::uint64_t address, bool is_return_address) const
  {
    const identify::Frame& frame = names_.at({address, is_return_address});
    const std::string file = frame.source_file.substr(frame.source_file.rfind('/') + 1);
    return {address, frame.symbol, frame.symbol_offset, frame.module, frame.module_offset,
            file.empty() ? "" : fmt::format("{}:{}", file, frame.source_line)};
  }

  source::live::ElfSymbols* symbols_;  // null: addresses cannot be followed
  std::map<std::uint64_t, Taken> stacks_;
  std::map<std::pair<std::uint64_t, bool>, identify::Frame> names_;  // of (address, is it a return address)
};

int fail(int code, const std::string& message)
{
  std::fprintf(stderr, "laggard: %s\n", message.c_str());
  return code;
}

// What the attribution counted, with the sockets' names. `seen`: every socket that was known at some time meanwhile.
Explanation explain(const model::Model& model, const model::Process& process, bool exited,
                    const std::map<std::uint64_t, detect::SocketRef>& seen, std::uint64_t asked_cookie)
{
  const model::Attribution& attribution = *process.attribution();
  Explanation result;
  result.time = model.last_tick_facts().wall_time;
  result.process = {process.latest().id, process.latest().comm, process.latest().vpid, process.latest().uid,
                    model.last_tick_facts().started_at(process.latest().id), model.workload_of(process.latest().id, 0)};
  result.observed = attribution.end - attribution.begin;
  result.complete = attribution.complete;
  result.memory_bytes = process.latest().private_bytes();
  result.net_bytes = attribution.net_bytes;
  result.other_bytes = attribution.other_bytes;
  result.total_bytes = attribution.total_bytes();
  for (const model::Attribution::Share& share : attribution.sockets) {
    Explanation::Socket& socket = result.sockets.emplace_back();
    socket.cookie = share.cookie;
    if (const auto found = seen.find(share.cookie); found != seen.end())
      socket.socket = found->second;
    socket.kernel_bytes = share.kernel_bytes;
    socket.user_bytes = share.user_bytes;
    socket.asked_for = share.cookie == asked_cookie;
  }
  std::ranges::stable_sort(result.sockets, std::greater{},
                           [](const Explanation::Socket& socket) { return socket.kernel_bytes + socket.user_bytes; });
  if (!exited && result.observed > Duration{})
    result.limit_eta_seconds = detect::forecast(model, process, attribution.net_bytes / seconds(result.observed)).eta_seconds;
  if (attribution.lost_bytes > 0)
    result.missing.push_back(fmt::format("{} bytes came with more sockets than can be counted", attribution.lost_bytes));
  if (exited)
    result.missing.push_back(fmt::format("process {} exited meanwhile: its memory is as last seen", result.process.id.tgid));
  else if (!attribution.complete)
    result.missing.push_back("the observation was cut short");
  return result;
}

}  // namespace

int run_explain(const Options& options)
{
  if (options.filter.tgids.size() + (options.connection.empty() ? 0 : 1) != 1)
    return fail(kUsage, "explain needs one --pid PID or one --connection ID");
  const Duration duration = options.duration.value_or(kDefaultDuration);
  auto reader = source::live::ElfReader::start();
  if (!reader)
    return fail(kCannotObserve, "cannot explain: " + reader.error().message());
  auto setup = open_live(options);
  if (!setup)
    return fail(kCannotObserve, "cannot observe: " + setup.error().message());
  source::live::LiveSource& source = *setup->source;
  if (!source.can_attribute())
    return fail(kCannotObserve, "cannot explain: no hook of this kernel tells with what memory grows; see 'laggard doctor'");

  // Memory has to be watched from before the attribution begins.
  model::Model model{{.memory_window = duration + std::chrono::seconds(2)}};
  std::map<std::uint64_t, detect::SocketRef> seen;
  std::optional<model::ProcessSample> last;  // of the suspect, once it is known
  bool exited = false;
  const auto look = [&](bool everything) -> Result<void> {
    auto raw = source.tick(source::live::LiveSource::Look::All, everything);
    auto tick = raw ? source::decode(*raw) : tl::make_unexpected(raw.error());
    if (!tick)
      return tl::make_unexpected(tick.error());
    if (last && tick->walked_processes) {
      const auto found = std::ranges::find(tick->processes, last->id, &model::ProcessSample::id);
      exited = found == tick->processes.end();
      if (exited)  // what it grew with is worth telling all the more: the model keeps it as it was
        tick->processes.push_back(*last);
      else
        last = *found;
    }
    model.apply(*tick);
    for (const model::SocketSample& sample : tick->sockets)
      seen.insert_or_assign(sample.cookie, detect::socket_ref(model, sample));
    return {};
  };
  if (auto looked = look(true); !looked)
    return fail(kCannotObserve, "cannot observe: " + looked.error().message());

  std::uint64_t cookie = 0;
  std::uint32_t tgid = options.connection.empty() ? *options.filter.tgids.begin() : 0;
  if (!options.connection.empty()) {
    auto found = find_connection(model, options.connection);
    if (!found)
      return fail(kUsage, found.error().message());
    cookie = found->cookie;
    tgid = found->process.tgid;
  }
  const model::Process* process = model.find_tgid(tgid);
  if (process == nullptr)
    return fail(kUsage, fmt::format("there is no process {} (pids are those of the host's initial pid namespace)", tgid));
  last = process->latest();

  // From here on, before the program's files are looked into, only what symbols need: /proc/PID/map_files wants
  // CAP_CHECKPOINT_RESTORE. Since Linux 6.15 CAP_PERFMON reads maps, too (kernel/fork.c, may_access_mm).
  std::vector<int> for_symbols{CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE};
  if (!source::live::host_facts().has_sys_ptrace)
    for_symbols.push_back(CAP_PERFMON);
  if (auto dropped = give_up_privileges(options, *setup, std::move(for_symbols)); !dropped)
    return fail(kCannotObserve, dropped.error().message());
  auto symbols = source::live::host_facts().initial_pid_ns
                     ? source::live::ElfSymbols::open(**reader, tgid)
                     : failure("no names: the /proc of a nested pid namespace shows other processes");
  StackCollector collector{symbols ? &*symbols : nullptr};
  const source::live::Attributions::Samples taker{[&](const laggard_stack_sample& sample) { collector.stack(sample); },
                                                 [&](const laggard_stack_owner& owner) { collector.owner(owner); }};
  const Duration stack_interval = std::max<Duration>(duration / kMaxStacks, std::chrono::milliseconds(2));
  if (auto begun = source.attribute({.process = last->id, .duration = duration, .stack_interval = stack_interval}); !begun)
    return fail(kCannotObserve, "cannot explain: " + begun.error().message());
  std::fprintf(stderr, "laggard: tracing the memory of pid %u for %s; stop earlier with Ctrl-C\n", tgid,
               format_duration(duration).c_str());

  Options pace = options;
  pace.interval = kDrainInterval;
  pace.duration.reset();
  std::uint64_t lost_samples = 0;
  auto signals = StopSignals::take();
  if (!signals)
    return fail(kCannotObserve, signals.error().message());
  const auto ended = run_live_loop(pace, source, *signals, [&]() -> Result<bool> {
    source.attributions().take(taker);
    lost_samples = source.attributions().lost_samples();
    if (auto looked = look(false); !looked)
      return tl::make_unexpected(looked.error());
    return source.attributions().any() && !exited;
  });
  if (!ended)
    return fail(kCannotObserve, ended.error().message());
  if (source.attributions().any()) {  // Ctrl-C, or it exited
    source.attributions().take(taker);
    source.attributions().stop();
    if (auto looked = look(false); !looked)
      return fail(kCannotObserve, looked.error().message());
  }
  signals->give_back();  // names may take long: Ctrl-C ends that
  process = model.find(last->id);
  if (process == nullptr || !process->attribution())
    return fail(kIncomplete, fmt::format("process {}: its growth was not told", tgid));

  Explanation result = explain(model, *process, exited, seen, cookie);
  result.hooks = setup->observer.hooks_text();
  result.missing.insert(result.missing.end(), setup->observer.missing.begin(), setup->observer.missing.end());
  collector.name(exited, result.missing);
  result.stacks = collector.summarize(result.total_bytes);
  if (result.stacks.size() > kShownStacks)
    result.stacks.resize(kShownStacks);
  for (Explanation::Stack& stack : result.stacks)
    if (const auto found = seen.find(stack.cookie); found != seen.end())
      stack.place = to_string(found->second.tuple);
  if (symbols)
    result.missing.insert(result.missing.end(), symbols->missing().begin(), symbols->missing().end());
  else
    result.missing.push_back(symbols.error().message());
  if (lost_samples > 0)
    result.missing.push_back(fmt::format("{} stacks did not fit into the ring", lost_samples));
  const auto sink = output::make_sink(sink_options(options), setup->observer);
  if (!sink->explanation(result))
    return output_ended(*sink);
  return exited ? kIncomplete : kObserved;
}

}  // namespace laggard::cli
