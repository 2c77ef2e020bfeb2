// SPDX-License-Identifier: MIT
#include "source/live/attribution.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <laggard/abi/records.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "source/live/host.h"
#include "source/live/memory_limit.h"
#include "source/records.h"

namespace laggard::source::live {
namespace {

std::uint64_t gained_bytes(const laggard_suspect& suspect)
{
  std::int64_t pages = 0;
  for (std::size_t member = 0; member < std::size(suspect.last_pages); member++)
    pages += static_cast<std::int64_t>(suspect.last_pages[member] - suspect.first_pages[member]);
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages > 0 ? static_cast<std::uint64_t>(pages) * page_bytes : 0;
}

}  // namespace

int Attributions::suspects_fd() const { return bpf_map__fd(skeleton_.maps.suspects); }

bool Attributions::has(model::ProcessId process) const
{
  return std::ranges::any_of(running_, [&](const Running& running) { return running.request.process == process; });
}

std::uint32_t Attributions::free_index() const
{
  std::uint32_t index = 0;
  while (std::ranges::any_of(running_, [&](const Running& running) { return running.index == index; }))
    index++;
  return index;
}

Result<void> Attributions::attach()
{
  for (std::string_view name : programs_) {
    bpf_program* program = bpf_object__find_program_by_name(skeleton_.obj, std::string(name).c_str());
    links_.emplace_back(program != nullptr ? bpf_program__attach(program) : nullptr);
    if (!links_.back()) {
      auto failed = errno_failure(fmt::format("cannot attach '{}'", name));
      links_.clear();
      return failed;
    }
  }
  return {};
}

Result<void> Attributions::begin(const AttributionRequest& request, MonoTime now)
{
  if (request.stack_interval > Duration{}) {
    ring_.reset(ring_buffer__new(bpf_map__fd(skeleton_.maps.samples), on_sample, this, nullptr));
    if (!ring_)
      return errno_failure("cannot map the ring of stack samples");
    take({[](const laggard_stack_sample&) {}, [](const laggard_stack_owner&) {}});
  }
  laggard_suspect suspect{};
  suspect.generation = ++generations_;
  suspect.index = free_index();
  suspect.stack_interval_ns = static_cast<__u64>(request.stack_interval.count());
  if (bpf_map_update_elem(suspects_fd(), &request.process.tgid, &suspect, BPF_ANY) != 0)
    return errno_failure("cannot name a suspect to the kernel");
  running_.push_back({request, now, suspect.generation, suspect.index});
  stopped_ = false;
  if (links_.empty())
    if (auto attached = attach(); !attached) {
      running_.pop_back();
      bpf_map_delete_elem(suspects_fd(), &request.process.tgid);
      return attached;
    }
  return {};
}

Attributions::~Attributions()
{
  for (const Running& running : running_)
    bpf_map_delete_elem(suspects_fd(), &running.request.process.tgid);
}

// It begins after a tick and ends before one: a little less rather than an interval more.
bool Attributions::is_over(const Running& running, const laggard_suspect& suspect, MonoTime now) const
{
  const AttributionRequest& request = running.request;
  const auto lasts = [&](Duration length) { return now >= running.begin + length - length / 20; };
  return stopped_ || (lasts(request.duration) && (lasts(request.patience) || gained_bytes(suspect) >= request.needed_bytes));
}

void Attributions::finish(MonoTime now, std::uint32_t epoch, RawTick& into)
{
  std::erase_if(running_, [&](const Running& running) {
    laggard_suspect suspect{};
    if (bpf_map_lookup_elem(suspects_fd(), &running.request.process.tgid, &suspect) != 0)
      return true;
    if (!is_over(running, suspect, now))
      return false;
    bpf_map_delete_elem(suspects_fd(), &running.request.process.tgid);
    tell(running, suspect, now, epoch, into);
    return true;
  });
  if (running_.empty())
    links_.clear();
}

void Attributions::tell(const Running& running, const laggard_suspect& suspect, MonoTime now, std::uint32_t epoch, RawTick& into)
{
  // A /proc of a nested pid namespace names other processes.
  static const bool proc_is_the_hosts = host_facts().initial_pid_ns;
  const AttributionRequest& request = running.request;
  const MemoryRoom room = proc_is_the_hosts ? memory_room_of(request.process.tgid) : MemoryRoom{};
  laggard_growth_record record{};
  record.header = {LAGGARD_RECORD_GROWTH, sizeof record, epoch};
  record.start_ns = request.process.start_ns;
  record.begin_ns = static_cast<__u64>(running.begin.time_since_epoch().count());
  record.end_ns = static_cast<__u64>(now.time_since_epoch().count());
  record.lost_pages = suspect.lost_pages;
  record.memory_limit_bytes = room.limit_bytes;
  record.memory_limit_headroom_bytes = room.headroom_bytes;
  record.tgid = request.process.tgid;
  const auto add = [&](__u64 cookie, const laggard_growth& growth) {
    record.cookie = cookie;
    record.flags = (stopped_ ? 0 : LAGGARD_GROWTH_COMPLETE) | (growth.accepted != 0 ? LAGGARD_GROWTH_ACCEPTED : 0);
    record.kernel_pages = growth.kernel_pages;
    record.user_pages = growth.user_pages;
    record.reads = growth.reads;
    record.read_bytes = growth.read_bytes;
    record.turns = growth.turns;
    record.answered = growth.answered;
    append(into, record);
  };

  const int map = bpf_map__fd(skeleton_.maps.growth);
  std::vector<laggard_growth_key> keys;
  laggard_growth_key key{};
  for (const laggard_growth_key* previous = nullptr; bpf_map_get_next_key(map, previous, &key) == 0; previous = &key)
    if (key.generation == running.generation)
      keys.push_back(key);
  laggard_growth others{};
  for (const laggard_growth_key& one : keys) {
    laggard_growth growth{};
    if (bpf_map_lookup_elem(map, &one, &growth) != 0 || bpf_map_delete_elem(map, &one) != 0)
      continue;
    if (one.cookie == 0) {
      others.kernel_pages += growth.kernel_pages;
      others.user_pages += growth.user_pages;
    } else if (growth.kernel_pages + growth.user_pages == 0) {
      others.reads += growth.reads;
      others.read_bytes += growth.read_bytes;
      others.turns += growth.accepted != 0 ? growth.turns : 0;
      others.answered += growth.accepted != 0 ? growth.answered : 0;
    } else {
      add(one.cookie, growth);
    }
  }
  add(0, others);
}

std::uint64_t Attributions::lost_samples() const
{
  std::uint64_t lost = 0;
  for (const Running& running : running_) {
    laggard_suspect suspect{};
    if (bpf_map_lookup_elem(suspects_fd(), &running.request.process.tgid, &suspect) == 0)
      lost += suspect.lost_samples;
  }
  return lost;
}

int Attributions::on_sample(void* context, void* data, std::size_t size)
{
  const Samples* taker = static_cast<Attributions*>(context)->taker_;
  __u32 kind = 0;
  std::memcpy(&kind, data, sizeof kind);
  if (kind == LAGGARD_SAMPLE_STACK && size >= sizeof(laggard_stack_sample))
    taker->stack(*static_cast<const laggard_stack_sample*>(data));
  if (kind == LAGGARD_SAMPLE_OWNER && size >= sizeof(laggard_stack_owner))
    taker->owner(*static_cast<const laggard_stack_owner*>(data));
  return 0;
}

void Attributions::take(const Samples& samples)
{
  if (!ring_)
    return;
  taker_ = &samples;
  ring_buffer__consume(ring_.get());
  taker_ = nullptr;
}

}  // namespace laggard::source::live
