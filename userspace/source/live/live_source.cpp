// SPDX-License-Identifier: MIT
#include "source/live/live_source.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>

#include "base/fd.h"
#include "identify/clock.h"
#include "source/live/host.h"
#include "source/live/memory_limit.h"
#include "source/records.h"

namespace laggard::source::live {
namespace {

constexpr std::size_t kFirstTickBytes = 32 << 10;
// The probes of a program are attached once, and that may take a while: no reason to come late to the next.
constexpr Duration kProgramsCostAtMost = std::chrono::milliseconds(10);
// To announce a read, and to understand that: measured.
constexpr Duration kAnnouncementCost = std::chrono::microseconds(4);
constexpr std::uint64_t kFewestAnnouncements = 256;
constexpr int kSweepsPerLookAtPools = 4;
constexpr Duration kLongestSlice = std::chrono::seconds(5);  // what the budget brings in so long
constexpr std::uint64_t kMemoryOfNewSocket = 900;  // as a record and as a sample
constexpr std::uint64_t kPartForNewSockets = 16;   // of --max-memory
constexpr std::uint64_t kMemoryOfState = 768;       // measured: 720, with what the kernel keeps beside it
constexpr std::uint64_t kMemoryBeside = 4 << 20;    // iterators, and what each CPU has been charged in advance

struct HostMemory {
  std::uint64_t available_bytes = 0;
  std::uint64_t shmem_bytes = 0;
};

HostMemory host_memory()
{
  HostMemory memory;
  std::ifstream file{"/proc/meminfo"};
  std::string key, unit;
  std::uint64_t kib = 0;
  while (file >> key >> kib && std::getline(file, unit)) {
    if (key == "MemAvailable:")
      memory.available_bytes = kib << 10;
    if (key == "Shmem:") {
      memory.shmem_bytes = kib << 10;
      break;
    }
  }
  return memory;
}

// Of this process, resident; files do not count.
std::uint64_t private_memory()
{
  std::ifstream file{"/proc/self/statm"};
  std::uint64_t all = 0, resident = 0, shared = 0;
  file >> all >> resident >> shared;
  return (resident - std::min(resident, shared)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

int keep_record(void* context, void* data, std::size_t size)
{
  auto& pending = *static_cast<RawTick*>(context);
  const auto* bytes = static_cast<const std::byte*>(data);
  pending.insert(pending.end(), bytes, bytes + size);
  return 0;
}

std::set<std::pair<std::uint32_t, std::uint64_t>> processes_in(const RawTick& raw)
{
  std::set<std::pair<std::uint32_t, std::uint64_t>> processes;
  for_each_record(raw, [&](__u16 kind, std::span<const std::byte> bytes) {
    if (kind != LAGGARD_RECORD_PROCESS)
      return;
    const auto record = take<laggard_process_record>(bytes);
    processes.emplace(record.tgid, record.start_ns);
  });
  return processes;
}

}  // namespace

LiveSource::LiveSource(Loaded loaded, const LiveOptions& options)
    : plan_(std::move(loaded.plan)),
      skeleton_(std::move(loaded.skeleton)),
      attributions_(*skeleton_, plan_.on_demand),
      budget_(options.max_cpu),
      sweep_(skeleton_, options.ripens_after + options.interval),
      workloads_(options.max_cpu / 10, options.command_lines),
      new_sockets_at_most_(options.max_memory / kPartForNewSockets / kMemoryOfNewSocket),
      max_memory_(options.max_memory),
      pools_period_(options.pools_period),
      interval_(options.interval)
{
}

LiveSource::~LiveSource() = default;

Result<std::unique_ptr<LiveSource>> LiveSource::open(const LiveOptions& options)
{
  auto forced = options.forced_hooks;
  PairOptions pair_options = options.pairs;
  if (const auto hook = forced.extract("pairs"); !hook.empty())
    pair_options.hook = hook.mapped();
  // First: who reads foreign files has nothing of what comes next.
  std::unique_ptr<ElfReader> reader;
  if (!pair_options.pairs.empty()) {
    auto started = ElfReader::start();
    if (!started)
      return tl::make_unexpected(started.error());
    reader = std::move(*started);
  }
  auto loaded = load_best(forced, options.feeds);
  if (!loaded)
    return tl::make_unexpected(loaded.error());
  std::unique_ptr<LiveSource> source{new LiveSource(std::move(*loaded), options)};
  if (auto started = source->start(); !started)
    return tl::make_unexpected(started.error());
  if (!pair_options.pairs.empty()) {
    auto pairs = PairProbe::open(std::move(pair_options), std::move(reader));
    if (!pairs)
      return tl::make_unexpected(pairs.error());
    source->pairs_ = std::move(*pairs);
    source->plan_.choices.push_back({"pairs", std::string(source->pairs_->hook()), {}});
    // One descriptor to wait for: drain() looks at them all.
    for (const int fd : source->pairs_->event_fds()) {
      epoll_event readable{.events = EPOLLIN, .data = {.fd = fd}};
      if (::epoll_ctl(source->ring_fd(), EPOLL_CTL_ADD, fd, &readable) != 0)
        return errno_failure("cannot wait for the events of --pairs");
    }
  }
  return source;
}

Result<void> LiveSource::start()
{
  allow_states();
  ring_.reset(ring_buffer__new(bpf_map__fd(skeleton_->maps.ring), keep_record, &pending_, nullptr));
  if (!ring_)
    return errno_failure("cannot map the ring buffer");
  // Who looks once needs no state from before: the first tick's walk is the seeding one.
  if (!plan_.has("reads")) {
    skeleton_->bss->epoch = 0;
    return {};
  }
  // Sockets that are older than us get their state here; what the walk prints belongs to the first tick.
  RawTick seeded;
  if (auto walked = walk(skeleton_->links.holders, seeded); !walked || !plan_.has("unaccepted"))
    return walked;
  return walk(skeleton_->links.unaccepted, seeded);
}

Result<void> LiveSource::attribute(const AttributionRequest& request)
{
  if (!plan_.has("growth"))
    return failure("no hook of this kernel tells which reads memory grows with");
  if (attributions_.is_full() || attributions_.has(request.process))
    return {};
  const auto now = identify::monotonic_now();
  auto begun = attributions_.begin(request, now);
  attribution_refused_ = !begun;
  return begun;
}

void LiveSource::drain()
{
  ring_buffer__consume(ring_.get());
  if (pairs_)
    pairs_->look_at_events();
}

Result<RawTick> LiveSource::tick(Look look, bool everything)
{
  const auto now = identify::monotonic_now();
  const Duration cpu_before = identify::thread_cpu();
  budget_.begin_tick(now, identify::process_cpu());
  // Before the epoch turns: what wakes up then finds room.
  RawTick raw;
  raw.reserve(expected_bytes_ + expected_bytes_ / 8 + kFirstTickBytes);
  raw.resize(sizeof(laggard_tick_record));  // its place; what it tells comes last
  take_pending(raw);
  allow_announcements();
  allow_states();
  skeleton_->bss->epoch++;
  laggard_tick_record head{};
  head.header = {LAGGARD_RECORD_TICK, sizeof head, skeleton_->bss->epoch};
  std::memcpy(raw.data(), &head, sizeof head);  // records are found from the first one on
  const bool sweeps_files = sweep_.shows_holders();
  const auto walk_if_due = [&](Walk which, auto walk) -> Result<bool> {
    const bool wanted = look == Look::Holders && which == (sweeps_files ? Walk::Sweep : Walk::Holders);
    if (look != Look::All && !budget_.due(which, now, wanted))
      return false;
    const Duration before = identify::thread_cpu();
    if (auto walked = walk(); !walked)
      return tl::make_unexpected(walked.error());
    take_pending(raw);
    budget_.spent(which, now, identify::thread_cpu() - before);
    return true;
  };

  // Holders first: the walk makes UDP sockets known that passed no hook yet, and the sweep shows them at once. A sweep over files
  // shows who holds them as it goes.
  if (!sweeps_files) {
    const auto holders = walk_if_due(Walk::Holders, [&] { return walk(skeleton_->links.holders, raw); });
    if (!holders)
      return tl::make_unexpected(holders.error());
    if (*holders)
      head.coverage |= LAGGARD_COVERS_HOLDERS;
  }
  Sweep::Step step;
  const auto swept = walk_if_due(Walk::Sweep, [&]() -> Result<void> {
    const auto stepped = sweep_.go_on(now,
                                      {.at_most = look == Look::All ? Duration::max() : slice(),
                                       .everything = everything,
                                       .pooled = pools_period_ > Duration{} && now >= pools_due_,
                                       .new_at_most = new_sockets_at_most_},
                                      raw);
    if (!stepped)
      return tl::make_unexpected(stepped.error());
    step = *stepped;
    return {};
  });
  if (!swept)
    return tl::make_unexpected(swept.error());
  swept_ = *swept;
  const Duration sweep_period = std::max(budget_.period(Walk::Sweep), sweep_.period(now));
  if (step.looked_again)
    head.coverage |= LAGGARD_LOOKED_AGAIN;
  if (step.ended) {
    head.coverage |= LAGGARD_COVERS_SWEEP | (sweeps_files ? LAGGARD_COVERS_HOLDERS : 0);
    head.sockets_visited = step.visited;
    head.swept_from_ns = static_cast<__u64>(step.began.time_since_epoch().count());
    if (step.pooled) {
      // Ticks jitter: not one more than needed.
      pools_due_ = now + std::max(pools_period_ * 9 / 10, sweep_period * kSweepsPerLookAtPools);
      head.coverage |= LAGGARD_COVERS_POOLED;
    }
  }
  if (plan_.has("processes")) {
    const auto walked = walk_if_due(Walk::Processes, [&] { return walk(skeleton_->links.processes, raw); });
    if (!walked)
      return tl::make_unexpected(walked.error());
    if (*walked)
      head.coverage |= LAGGARD_COVERS_PROCESSES;
  }

  if (can_attribute())
    head.coverage |= LAGGARD_CAN_ATTRIBUTE;
  attributions_.finish(now, skeleton_->bss->epoch, raw);

  if (pairs_)
    look_at_pairs(now, (head.coverage & LAGGARD_COVERS_PROCESSES) != 0, raw);
  workloads_.tell(now, skeleton_->bss->epoch, raw);

  const HostMemory memory = host_memory();
  // After the walks, so that no sample is younger than its tick.
  head.mono_ns = static_cast<__u64>(identify::clock_now(CLOCK_MONOTONIC).count());
  head.realtime_ns = static_cast<__u64>(identify::clock_now(CLOCK_REALTIME).count());
  head.boottime_ns = static_cast<__u64>(identify::clock_now(CLOCK_BOOTTIME).count());
  head.interval_ns = static_cast<__u64>(interval_.count());
  head.page_bytes = static_cast<__u64>(::sysconf(_SC_PAGESIZE));
  head.sweep_cpu_us = static_cast<__u32>((identify::thread_cpu() - cpu_before).count() / 1000);
  head.sweep_period_ns = static_cast<__u64>(sweep_period.count());
  std::copy(std::begin(skeleton_->bss->lost), std::end(skeleton_->bss->lost), std::begin(head.lost));
  head.skipped_runs = look_at_own_programs();
  head.host_memory_available_bytes = memory.available_bytes;
  head.host_shmem_bytes = memory.shmem_bytes;
  std::memcpy(raw.data(), &head, sizeof head);
  expected_bytes_ = raw.size();
  return raw;
}

// A slice of a sweep costs what the budget brings until it may be looked at again.
Duration LiveSource::slice() const
{
  const Duration brings = std::min(sweep_.ripens_after(), kLongestSlice);
  return Duration{static_cast<std::int64_t>(static_cast<double>(brings.count()) * budget_.share_of_walks())};
}

void LiveSource::charge(Duration cpu)
{
  if (swept_)
    budget_.charge(Walk::Sweep, cpu);
}

void LiveSource::take_pending(RawTick& into)
{
  drain();
  into.insert(into.end(), pending_.begin(), pending_.end());
  pending_.clear();
}

// As many as half of the budget pays for, where sweeps come too seldom to show what is read.
void LiveSource::allow_announcements()
{
  const double seconds_per_tick = seconds(budget_.interval());
  const double most = budget_.share_of_walks() / 2 * seconds_per_tick / seconds(kAnnouncementCost);
  skeleton_->bss->announced_at_most = std::max(static_cast<std::uint64_t>(most), kFewestAnnouncements);
  skeleton_->bss->announced = 0;
}

// As many as the limit of our cgroup leaves room for beside --max-memory, or beside half of what others leave us at the start.
void LiveSource::allow_states()
{
  if (!has_memory_limit_)
    return;
  const MemoryRoom room = memory_room_of(static_cast<std::uint32_t>(::getpid()));
  has_memory_limit_ = room.limit_bytes > 0;
  if (!has_memory_limit_)
    return;
  const std::uint64_t used = private_memory();
  if (kept_for_us_ == 0)
    kept_for_us_ = std::min(max_memory_, used + room.headroom_bytes / 2);
  const std::uint64_t ours = kept_for_us_ - std::min(kept_for_us_, used) + kMemoryBeside;
  skeleton_->bss->states_left = static_cast<__s64>((room.headroom_bytes - std::min(room.headroom_bytes, ours)) / kMemoryOfState);
}

void LiveSource::look_at_pairs(MonoTime now, bool walked_processes, RawTick& into)
{
  const Duration begun = identify::thread_cpu();
  if (budget_.due(Walk::Programs, now)) {
    pairs_->look_for_programs();
    budget_.spent(Walk::Programs, now, std::min<Duration>(identify::thread_cpu() - begun, kProgramsCostAtMost));
  }
  if (const Duration before = identify::thread_cpu(); budget_.due(Walk::Pairs, now)) {
    const auto alive = processes_in(into);
    const auto is_alive = [&](std::uint32_t tgid, std::uint64_t start_ns) {
      return !walked_processes || alive.contains({tgid, start_ns});
    };
    pairs_->collect(now, skeleton_->bss->epoch, is_alive, into);
    budget_.spent(Walk::Pairs, now, identify::thread_cpu() - before);
  }
}

// kernel/trace/bpf_trace.c, __bpf_trace_run(): a program that is under way on this CPU is not entered again.
std::uint64_t LiveSource::look_at_own_programs()
{
  std::uint64_t skipped = 0;
  program_runs_.clear();
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton_->obj)
  {
    bpf_prog_info info{};
    __u32 size = sizeof info;
    if (bpf_program__fd(program) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0)
      continue;
    skipped += info.recursion_misses;
    program_runs_.push_back({bpf_program__name(program), info.run_cnt, Duration{static_cast<std::int64_t>(info.run_time_ns)}});
  }
  return skipped;
}

bool LiveSource::works_without_capabilities() const
{
  const pid_t child = ::fork();
  if (child < 0)
    return false;
  if (child == 0) {
    const bool works = drop_privileges({}) && bpf_iter_create(bpf_link__fd(sweep_.link())) >= 0;
    ::_exit(works ? 0 : 1);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace laggard::source::live
