// SPDX-License-Identifier: MIT
#include "source/live/map_watch.h"

#include <bpf/bpf.h>
#include <linux/perf_event.h>

#include <cstddef>
#include <cstring>

namespace laggard::source::live {
namespace {

constexpr std::size_t kPagesPerCpu = 8;  // hundreds of mappings; what is lost is met by the walks over processes

// include/uapi/linux/perf_event.h, PERF_RECORD_MMAP2; then the name.
struct Mmap2Record {
  perf_event_header header;
  __u32 pid, tid;
  __u64 address, bytes, offset;
  __u32 device_major, device_minor;
  __u64 inode, inode_generation;
  __u32 protection, flags;
};

}  // namespace

Result<std::unique_ptr<MapWatch>> MapWatch::open(Found found)
{
  std::unique_ptr<MapWatch> watch{new MapWatch(std::move(found))};
  const int cpus = libbpf_num_possible_cpus();
  watch->map_.reset(bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "laggard_maps", sizeof(__u32), sizeof(__u32),
                                   static_cast<__u32>(cpus > 0 ? cpus : 1), nullptr));
  if (!watch->map_)
    return errno_failure("cannot create a map of perf events");
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_BPF_OUTPUT;
  attributes.sample_type = PERF_SAMPLE_RAW;
  attributes.sample_period = 1;
  attributes.mmap = 1;  // executable ones
  attributes.mmap2 = 1;
  attributes.watermark = 1;
  attributes.wakeup_watermark = 1;
  watch->buffer_.reset(perf_buffer__new_raw(watch->map_.get(), kPagesPerCpu, &attributes, on_record, watch.get(), nullptr));
  if (!watch->buffer_)
    return errno_failure("cannot watch what processes map");
  return watch;
}

bpf_perf_event_ret MapWatch::on_record(void* watch, int, perf_event_header* record)
{
  if (record->type != PERF_RECORD_MMAP2 || record->size <= sizeof(Mmap2Record))
    return LIBBPF_PERF_EVENT_CONT;
  Mmap2Record mapped{};
  std::memcpy(&mapped, record, sizeof mapped);
  const char* name = reinterpret_cast<const char*>(record) + sizeof mapped;
  static_cast<MapWatch*>(watch)->found_({mapped.pid, static_cast<std::uint64_t>(mapped.device_major) << 32 | mapped.device_minor,
                                         mapped.inode, {name, strnlen(name, record->size - sizeof mapped)}});
  return LIBBPF_PERF_EVENT_CONT;
}

}  // namespace laggard::source::live
