// SPDX-License-Identifier: MIT
#include "source/decode.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "source/records.h"

namespace laggard::source {
namespace {

// A damaged recording must not overflow what is computed from its times: 2^60 ns are 36 years of uptime.
Duration bounded(std::uint64_t ns, std::uint64_t limit_ns = 1ULL << 60)
{
  return Duration{static_cast<std::int64_t>(std::min(ns, limit_ns))};
}

MonoTime time_of(std::uint64_t ns) { return MonoTime{bounded(ns)}; }

model::ProcessId process_of(std::uint32_t tgid, std::uint64_t start_ns)
{
  return {tgid, static_cast<std::uint64_t>(bounded(start_ns).count())};
}

model::Address address_of(const __u8 (&bytes)[16], __u8 family)
{
  static constexpr __u8 kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  model::Address address;
  if (family == AF_INET6 && std::memcmp(bytes, kMapped, sizeof kMapped) != 0) {
    std::memcpy(address.bytes.data(), bytes, 16);
    address.is_ipv6 = true;
  } else {
    std::memcpy(address.bytes.data(), bytes + (family == AF_INET6 ? 12 : 0), 4);
  }
  return address;
}

void add(model::Tick& tick, const laggard_tick_record& record)
{
  tick.time = time_of(record.mono_ns);
  tick.wall_time = WallTime{bounded(record.realtime_ns, 1ULL << 62)};
  tick.since_boot = bounded(record.boottime_ns);
  tick.epoch = record.header.epoch;
  tick.swept = (record.coverage & LAGGARD_COVERS_SWEEP) != 0;
  tick.walked_holders = (record.coverage & LAGGARD_COVERS_HOLDERS) != 0;
  tick.walked_processes = (record.coverage & LAGGARD_COVERS_PROCESSES) != 0;
  tick.looked_at_pools = (record.coverage & LAGGARD_COVERS_POOLED) != 0;
  tick.can_attribute = (record.coverage & LAGGARD_CAN_ATTRIBUTE) != 0;
  tick.sweep_cpu = std::chrono::microseconds(record.sweep_cpu_us);
  tick.sweep_period = bounded(record.sweep_period_ns);
  tick.sockets_visited = record.sockets_visited;
  tick.host_available_bytes = record.host_memory_available_bytes;
  tick.host_shmem_bytes = record.host_shmem_bytes;
  tick.lost.ring_full = record.lost[LAGGARD_LOST_RING_FULL];
  tick.lost.no_storage = record.lost[LAGGARD_LOST_NO_STORAGE];
  tick.lost.no_totals = record.lost[LAGGARD_LOST_NO_TOTALS];
  tick.lost.skipped_runs = record.skipped_runs;
  tick.meant_interval = bounded(record.interval_ns);
  tick.looked_again = (record.coverage & LAGGARD_LOOKED_AGAIN) != 0;
  tick.swept_from = time_of(record.swept_from_ns);
}

void add(model::Tick& tick, const laggard_socket_record& record)
{
  model::FullSample& sample = tick.sockets.emplace_back();
  sample.cookie = record.cookie;
  sample.time = time_of(record.mono_ns);
  sample.transport = record.protocol == IPPROTO_UDP ? model::Transport::Udp : model::Transport::Tcp;
  sample.state = static_cast<model::TcpState>(record.state);
  sample.tuple = {{address_of(record.local, record.family), record.local_port},
                  {address_of(record.peer, record.family), record.peer_port}};
  sample.netns = record.netns;
  sample.cgroup_id = record.cgroup_id;
  sample.inode = record.inode;
  sample.owner = process_of(record.owner_tgid, record.owner_start_ns);
  sample.reader_tgid = record.reader_tgid;

  const auto flag = [&record](__u32 bit) { return (record.flags & bit) != 0; };
  sample.older_than_observer = flag(LAGGARD_F_SEEDED);
  sample.accepted = flag(LAGGARD_F_ACCEPTED);
  sample.connected = flag(LAGGARD_F_CONNECTED);
  sample.has_file = flag(LAGGARD_F_HAS_FILE);
  sample.unaccepted = flag(LAGGARD_F_UNACCEPTED);
  sample.first_read = flag(LAGGARD_F_FIRST_READ);
  sample.in_epoll = flag(LAGGARD_F_IN_EPOLL);
  sample.eof_seen = flag(LAGGARD_F_EOF_SEEN);
  sample.eof_eaten = flag(LAGGARD_F_EOF_EATEN);
  sample.peer_closed = flag(LAGGARD_F_SOCK_DONE);

  sample.fin_unread = flag(LAGGARD_F_FIN_UNREAD);
  sample.fin_read = flag(LAGGARD_F_FIN_READ);
  sample.reset = flag(LAGGARD_F_RESET);
  sample.timed_out = flag(LAGGARD_F_TIMED_OUT);
  sample.keepalive = flag(LAGGARD_F_KEEPALIVE);
  sample.rwnd_limits = flag(LAGGARD_F_RWND_LIMITS);

  sample.unread_bytes = record.unread_bytes;
  sample.leftover_bytes = record.leftover_bytes;
  sample.rcv_nxt = record.rcv_nxt;
  sample.copied_seq = record.copied_seq;
  sample.rcv_window_left = record.rcv_window_left;
  sample.rcv_mss = record.rcv_mss;
  sample.rmem_bytes = record.sk_rmem_alloc;
  sample.rcvbuf_bytes = record.sk_rcvbuf;
  sample.queued_packets = record.queued_packets;
  sample.drops = record.drops;
  sample.last_arrival = time_of(record.last_arrival_ns);
  sample.snd_una = record.snd_una;
  sample.write_seq = record.write_seq;
  sample.snd_wnd = record.snd_wnd;
  sample.rwnd_limited = bounded(record.rwnd_limited_ns);
  sample.bytes_received = record.bytes_received;
  sample.bytes_acked = record.bytes_acked;
  sample.last_ack = time_of(record.last_ack_ns);
  sample.retransmits = record.icsk_retransmits;
  sample.probes_unanswered = record.icsk_probes_out;
  sample.retransmits_limit = record.tcp_retries2;
  sample.user_timeout = std::chrono::milliseconds(record.user_timeout_ms);
  sample.ack_backlog = record.sk_ack_backlog;
  sample.max_ack_backlog = record.sk_max_ack_backlog;

  sample.read_epoch = record.read_epoch;
  if (record.read_epoch != 0 && record.min_unread_bytes != LAGGARD_UNKNOWN_U32)
    sample.min_unread_bytes = record.min_unread_bytes;
  sample.max_unread_bytes = record.max_unread_bytes;
  sample.reads = record.reads;
  sample.read_bytes = record.read_bytes;
  sample.closed_window_reads = record.closed_window_reads;
  sample.empty_reads = record.empty_reads;
  sample.run_bytes = record.run_bytes;
  sample.run_reads = record.run_reads;
  static_assert(model::kSizeBuckets == LAGGARD_SIZE_BUCKETS);
  std::copy(std::begin(record.sizes), std::end(record.sizes), sample.sizes.begin());
  sample.first_read_at = time_of(record.first_read_ns);
  sample.last_read = time_of(record.last_read_ns);
  sample.opened = time_of(record.opened_ns);
  sample.peer_closed_at = time_of(record.peer_closed_ns);
  sample.shutdown_at = time_of(record.shutdown_ns);
  sample.ended_at = time_of(record.ended_ns);
}

void add(model::Tick& tick, const laggard_still_record& record) { tick.still.push_back({record.cookie, time_of(record.mono_ns)}); }

void add(model::Tick& tick, const laggard_gone_record& record) { tick.gone.push_back(record.cookie); }

void add(model::Tick& tick, const laggard_holder_record& record)
{
  tick.holders.push_back({record.cookie, process_of(record.tgid, record.start_ns), record.fd});
}

void add(model::Tick& tick, const laggard_pooled_record& record)
{
  model::PooledSample& sample = tick.pooled.emplace_back();
  sample.cookie = record.cookie;
  sample.owner = process_of(record.owner_tgid, record.owner_start_ns);
  sample.tuple = {{address_of(record.local, record.family), record.local_port},
                  {address_of(record.peer, record.family), record.peer_port}};
  sample.netns = record.netns;
  sample.connected = (record.flags & LAGGARD_F_CONNECTED) != 0;
  sample.accepted = (record.flags & LAGGARD_F_ACCEPTED) != 0;
  sample.transport = record.protocol == IPPROTO_UDP ? model::Transport::Udp : model::Transport::Tcp;
  sample.opened = time_of(record.opened_ns);
  sample.idle_since = time_of(record.idle_since_ns);
}

// Needs the page size, which the TICK record carries: set before any process is added.
void add(model::Tick& tick, const laggard_process_record& record, std::uint64_t page_bytes)
{
  model::ProcessSample& sample = tick.processes.emplace_back();
  sample.id = process_of(record.tgid, record.start_ns);
  sample.comm.assign(record.comm, strnlen(record.comm, sizeof record.comm));
  sample.vpid = record.vpid;
  sample.uid = record.uid;
  sample.cgroup_id = record.cgroup_id;
  sample.anon_bytes = record.anon_pages * page_bytes;
  sample.swap_bytes = record.swap_pages * page_bytes;
  sample.shmem_bytes = record.shmem_pages * page_bytes;
  sample.error_bytes = record.rss_error_pages * page_bytes;
  sample.read_bytes = record.read_bytes;
  sample.threads = record.threads;
  sample.waits_in_epoll = record.waits == LAGGARD_WAITS_EPOLL;
  sample.uses_sockets = record.uses_sockets != 0;
  sample.data_bytes = record.data_vm_pages * page_bytes;
  sample.exe_device = record.exe_device;
  sample.exe_inode = record.exe_inode;
}

void add(model::Tick& tick, const laggard_growth_record& record, std::uint64_t page_bytes)
{
  model::GrowthSample& sample = tick.growths.emplace_back();
  sample.process = process_of(record.tgid, record.start_ns);
  sample.begin = time_of(record.begin_ns);
  sample.end = time_of(record.end_ns);
  sample.complete = (record.flags & LAGGARD_GROWTH_COMPLETE) != 0;
  sample.cookie = record.cookie;
  sample.kernel_bytes = record.kernel_pages * page_bytes;
  sample.user_bytes = record.user_pages * page_bytes;
  sample.lost_bytes = record.lost_pages * page_bytes;
  sample.limit_bytes = record.memory_limit_bytes;
  sample.headroom_bytes = record.memory_limit_headroom_bytes;
  sample.accepted = (record.flags & LAGGARD_GROWTH_ACCEPTED) != 0;
  sample.reads = record.reads;
  sample.read_bytes = record.read_bytes;
  sample.turns = record.turns;
  sample.answered = record.answered;
}

template <std::size_t N>
std::string text_of(const char (&bytes)[N])
{
  return {bytes, strnlen(bytes, N)};
}

void add(model::Tick& tick, const laggard_pair_record& record)
{
  model::PairSample& sample = tick.pairs.emplace_back();
  sample.process = process_of(record.tgid, record.start_ns);
  sample.name = text_of(record.name);
  sample.time = time_of(record.mono_ns);
  sample.begun = record.begun;
  sample.ended = record.ended;
  sample.unmatched = record.unmatched;
  sample.lost = record.lost;
  sample.outstanding = record.outstanding;
  sample.oldest_begin = time_of(record.oldest_begin_ns);
  sample.last_end = time_of(record.last_end_ns);
  sample.slowest = bounded(record.slowest_ns, 1ULL << 56);  // several times it must fit, too
  sample.unreadable = record.unreadable;
  static_assert(model::kPairAges == LAGGARD_PAIR_AGES && model::kPairAge.count() == LAGGARD_PAIR_AGE_NS);
  std::copy(std::begin(record.overtaken), std::end(record.overtaken), sample.overtaken.begin());
  std::copy(std::begin(record.waiting), std::end(record.waiting), sample.waiting.begin());
  sample.stack = text_of(record.stack);
  sample.stack_count = record.stack_count;
  sample.refused = record.refused;
  sample.last_match = time_of(record.last_matched_ns);
  if ((record.flags & LAGGARD_PAIR_TELLS_SEEN) != 0) {
    sample.begin_seen = (record.flags & LAGGARD_PAIR_BEGIN_SEEN) != 0;
    sample.end_seen = (record.flags & LAGGARD_PAIR_END_SEEN) != 0;
  } else if (record.ended > 0) {
    sample.last_match = sample.last_end;
  }
  sample.by_connection = (record.flags & LAGGARD_PAIR_BY_CONNECTION) != 0;
  sample.each = (record.flags & LAGGARD_PAIR_EACH) != 0;
  sample.what = text_of(record.what);
  sample.advice = text_of(record.advice);
}

void add(model::Tick& tick, const laggard_workload_record& record)
{
  model::WorkloadSample& sample = tick.workloads.emplace_back();
  sample.process = process_of(record.tgid, record.start_ns);
  sample.cgroup_id = record.cgroup_id;
  sample.workload = {.container_id = text_of(record.container_id),
                     .container_runtime_name = text_of(record.container_runtime_name),
                     .k8s_namespace_name = text_of(record.k8s_namespace_name),
                     .k8s_pod_name = text_of(record.k8s_pod_name),
                     .k8s_pod_uid = text_of(record.k8s_pod_uid),
                     .k8s_container_name = text_of(record.k8s_container_name),
                     .systemd_unit = text_of(record.systemd_unit),
                     .command_line = text_of(record.command_line)};
}

// A kind of record as its first version was.
struct FirstVersion {
  std::string_view name;
  std::size_t bytes = 0;  // 0: of a newer writer
};

FirstVersion first_version_of(__u16 kind)
{
  switch (kind) {
#define LAGGARD_RECORD_FIRST(name, number, type, first_bytes) \
  case LAGGARD_RECORD_##name: return {#name, first_bytes};
    LAGGARD_RECORD_KINDS(LAGGARD_RECORD_FIRST)
#undef LAGGARD_RECORD_FIRST
    default: return {};
  }
}

// Exactly: what grows by doubling is moved and leaves twice the memory behind. Of what is too short nothing is made.
void reserve(std::span<const std::byte> raw, model::Tick& tick)
{
  std::array<std::size_t, LAGGARD_RECORD_STILL + 1> counts{};
  for_each_record(raw, [&](__u16 kind, std::span<const std::byte> bytes) {
    if (kind < counts.size() && bytes.size() >= first_version_of(kind).bytes)
      counts[kind]++;
  });
  tick.sockets.reserve(counts[LAGGARD_RECORD_SOCKET]);
  tick.still.reserve(counts[LAGGARD_RECORD_STILL]);
  tick.holders.reserve(counts[LAGGARD_RECORD_HOLDER]);
  tick.pooled.reserve(counts[LAGGARD_RECORD_POOLED]);
}

// What decodes must be paid for in bytes: a record of 8 bytes would become a sample of 500.
Result<void> check_size(const laggard_record_header& header, std::size_t offset, std::size_t rest)
{
  if (header.size < sizeof header || header.size > rest)
    return failure(fmt::format("record of kind {} at offset {} claims {} bytes of {}", header.kind, offset, header.size, rest));
  if (const FirstVersion first = first_version_of(header.kind); header.size < first.bytes)
    return failure(fmt::format("{} record at offset {} has {} bytes, and {} is the least that any version wrote", first.name, offset,
                               header.size, first.bytes));
  return {};
}

}  // namespace

Result<model::Tick> decode(std::span<const std::byte> raw)
{
  model::Tick tick;
  reserve(raw, tick);
  std::uint64_t page_bytes = 0;
  for (std::size_t offset = 0; offset < raw.size();) {
    const std::span<const std::byte> rest = raw.subspan(offset);
    if (rest.size() < sizeof(laggard_record_header))
      return failure(fmt::format("{} stray bytes at the end of a tick", rest.size()));
    const auto header = take<laggard_record_header>(rest.first(sizeof(laggard_record_header)));
    if (auto checked = check_size(header, offset, rest.size()); !checked)
      return tl::make_unexpected(checked.error());
    const std::span<const std::byte> bytes = rest.first(header.size);
    if ((offset == 0) != (header.kind == LAGGARD_RECORD_TICK))
      return failure("a tick must begin with its one TICK record");
    switch (header.kind) {
      case LAGGARD_RECORD_TICK: {
        const auto record = take<laggard_tick_record>(bytes);
        page_bytes = record.page_bytes;
        add(tick, record);
        break;
      }
      case LAGGARD_RECORD_SOCKET: add(tick, take<laggard_socket_record>(bytes)); break;
      case LAGGARD_RECORD_STILL: add(tick, take<laggard_still_record>(bytes)); break;
      case LAGGARD_RECORD_GONE: add(tick, take<laggard_gone_record>(bytes)); break;
      case LAGGARD_RECORD_HOLDER: add(tick, take<laggard_holder_record>(bytes)); break;
      case LAGGARD_RECORD_PROCESS: add(tick, take<laggard_process_record>(bytes), page_bytes); break;
      case LAGGARD_RECORD_POOLED: add(tick, take<laggard_pooled_record>(bytes)); break;
      case LAGGARD_RECORD_GROWTH: add(tick, take<laggard_growth_record>(bytes), page_bytes); break;
      case LAGGARD_RECORD_PAIR: add(tick, take<laggard_pair_record>(bytes)); break;
      case LAGGARD_RECORD_WORKLOAD: add(tick, take<laggard_workload_record>(bytes)); break;
      default: break;  // from a newer writer
    }
    offset += header.size;
  }
  if (raw.empty())
    return failure("a tick must begin with its one TICK record");
  return tick;
}

}  // namespace laggard::source
