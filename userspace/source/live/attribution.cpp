// SPDX-License-Identifier: MIT
#include "source/live/attribution.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <laggard/abi/records.h>

#include <cstring>

#include "source/live/host.h"
#include "source/live/memory_limit.h"

namespace laggard::source::live {
namespace {

void append(RawTick& into, const laggard_growth_record& record)
{
  const auto* bytes = reinterpret_cast<const std::byte*>(&record);
  into.insert(into.end(), bytes, bytes + sizeof record);
}

}  // namespace

Result<std::unique_ptr<Attribution>> Attribution::begin(laggard_bpf& skeleton, std::span<const std::string_view> programs,
                                                        const AttributionRequest& request, MonoTime now)
{
  std::unique_ptr<Attribution> attribution{new Attribution(skeleton, request, now)};

  const int map = bpf_map__fd(skeleton.maps.growth);
  __u64 key = 0;
  while (bpf_map_get_next_key(map, nullptr, &key) == 0)
    if (bpf_map_delete_elem(map, &key) != 0)
      break;
  laggard_growth_run& run = skeleton.bss->growth_run;
  const __u32 generation = run.generation + 1;
  run = {};
  run.generation = generation;
  run.stack_interval_ns = static_cast<__u64>(request.stack_interval.count());
  if (request.stack_interval.count() > 0) {
    attribution->ring_.reset(ring_buffer__new(bpf_map__fd(skeleton.maps.samples), on_sample, attribution.get(), nullptr));
    if (!attribution->ring_)
      return errno_failure("cannot map the ring of stack samples");
    attribution->take({[](const laggard_stack_sample&) {}, [](const laggard_stack_owner&) {}});
  }
  run.suspect_tgid = request.process.tgid;

  for (std::string_view name : programs) {
    bpf_program* program = bpf_object__find_program_by_name(skeleton.obj, std::string(name).c_str());
    attribution->links_.emplace_back(program != nullptr ? bpf_program__attach(program) : nullptr);
    if (!attribution->links_.back())
      return errno_failure(fmt::format("cannot attach '{}'", name));
  }
  return attribution;
}

Attribution::~Attribution() { skeleton_.bss->growth_run.suspect_tgid = 0; }

void Attribution::finish(MonoTime now, std::uint32_t epoch, RawTick& into)
{
  skeleton_.bss->growth_run.suspect_tgid = 0;
  links_.clear();

  // A /proc of a nested pid namespace names other processes.
  static const bool proc_is_the_hosts = host_facts().initial_pid_ns;
  const MemoryRoom room = proc_is_the_hosts ? memory_room_of(request_.process.tgid) : MemoryRoom{};
  laggard_growth_record record{};
  record.header = {LAGGARD_RECORD_GROWTH, sizeof record, epoch};
  record.start_ns = request_.process.start_ns;
  record.begin_ns = static_cast<__u64>(begin_.time_since_epoch().count());
  record.end_ns = static_cast<__u64>(now.time_since_epoch().count());
  record.lost_pages = skeleton_.bss->growth_run.lost_pages;
  record.memory_limit_bytes = room.limit_bytes;
  record.memory_limit_headroom_bytes = room.headroom_bytes;
  record.tgid = request_.process.tgid;
  record.flags = stopped_ ? 0 : LAGGARD_GROWTH_COMPLETE;
  const int map = bpf_map__fd(skeleton_.maps.growth);
  const auto add = [&](__u64 cookie, const laggard_growth& growth) {
    record.cookie = cookie;
    record.kernel_pages = growth.kernel_pages;
    record.user_pages = growth.user_pages;
    append(into, record);
  };
  laggard_growth growth{};
  __u64 cookie = 0;
  if (bpf_map_lookup_elem(map, &cookie, &growth) != 0)
    growth = {};
  add(0, growth);
  for (const __u64* previous = nullptr; bpf_map_get_next_key(map, previous, &cookie) == 0; previous = &cookie)
    if (cookie != 0 && bpf_map_lookup_elem(map, &cookie, &growth) == 0)
      add(cookie, growth);
}

int Attribution::on_sample(void* context, void* data, std::size_t size)
{
  const Samples* taker = static_cast<Attribution*>(context)->taker_;
  __u32 kind = 0;
  std::memcpy(&kind, data, sizeof kind);
  if (kind == LAGGARD_SAMPLE_STACK && size >= sizeof(laggard_stack_sample))
    taker->stack(*static_cast<const laggard_stack_sample*>(data));
  if (kind == LAGGARD_SAMPLE_OWNER && size >= sizeof(laggard_stack_owner))
    taker->owner(*static_cast<const laggard_stack_owner*>(data));
  return 0;
}

void Attribution::take(const Samples& samples)
{
  if (!ring_)
    return;
  taker_ = &samples;
  ring_buffer__consume(ring_.get());
  taker_ = nullptr;
}

}  // namespace laggard::source::live
