// SPDX-License-Identifier: MIT
// What one look at the host brought. Made by source/decode from wire records, live or recorded, and by nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "model/net.h"
#include "model/workload.h"

namespace laggard::model {

inline constexpr std::size_t kSizeBuckets = 21;  // bucket b: reads of [2^b, 2^(b+1)) bytes; the last from 1 MiB up
using SizeHistogram = std::array<std::uint32_t, kSizeBuckets>;  // totals mod 2^32

// What a program read from one socket: totals since the kernel side first knew it.
struct ReadCounts {
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t closed_window_reads = 0;
  std::uint64_t run_reads = 0;  // the latest run_reads reads returned exactly run_bytes; they are not in `sizes`
  std::uint32_t run_bytes = 0;
  SizeHistogram sizes{};
};

// A socket at a moment. Counters are totals since the kernel side first knew the socket; only differences mean anything.
struct SocketSample {
  std::uint64_t cookie = 0;  // unique for the life of the kernel
  MonoTime time;
  Transport transport = Transport::Tcp;
  TcpState state = TcpState::Close;
  Tuple tuple;
  std::uint32_t netns = 0;      // inode of the network namespace
  std::uint64_t cgroup_id = 0;  // cgroup v2; 0 = none
  std::uint64_t inode = 0;      // of the socket file; 0 = none
  ProcessId owner;              // who connected, listened, read or held it first
  std::uint32_t reader_tgid = 0;

  bool older_than_observer = false;
  bool accepted = false;
  bool connected = false;
  bool has_file = false;    // some process holds it
  bool first_read = false;  // of an epoch, told at once: nothing was read between the last look of the epoch before and this one
  bool in_epoll = false;    // some epoll set has it
  bool unaccepted = false;  // established, and waits in an accept queue
  bool eof_seen = false;    // a read returned 0
  bool eof_eaten = false;   // one read took the last data and the FIN
  bool peer_closed = false; // FIN received
  bool fin_unread = false;  // and no read has passed it
  bool fin_read = false;    // and a read has; neither is known of old recordings
  bool reset = false;       // ended by the peer's RST
  bool timed_out = false;   // ended because the peer acknowledged nothing for too long
  bool keepalive = false;   // SO_KEEPALIVE
  bool rwnd_limits = false; // at this moment the peer's window holds it back: rwnd_limited runs on

  // Receive side. TCP positions count bytes, UDP positions count datagrams; rcv_nxt - copied_seq is what is unread.
  std::uint32_t unread_bytes = 0;  // TCP: SIOCINQ. UDP: Recv-Q of ss, kernel memory of the queued datagrams
  std::uint32_t rcv_nxt = 0;
  std::uint32_t copied_seq = 0;
  std::uint32_t rcv_window_left = 0;
  std::uint32_t rcv_mss = 0;
  std::uint32_t rmem_bytes = 0;  // kernel memory that the receive queue holds
  std::uint32_t rcvbuf_bytes = 0;
  std::uint32_t queued_packets = 0;
  std::uint64_t drops = 0;
  MonoTime last_arrival;  // TCP
  std::uint32_t leftover_bytes = 0;  // TCP: unread_bytes, if all of it was there at the last read

  // Send side, TCP.
  std::uint32_t snd_una = 0;
  std::uint32_t write_seq = 0;
  std::uint32_t snd_wnd = 0;
  Duration rwnd_limited{};
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_acked = 0;
  MonoTime last_ack;                   // when the peer acknowledged anything
  std::uint8_t retransmits = 0;        // the retransmission timer has fired since
  std::uint8_t probes_unanswered = 0;  // of a shut window
  std::uint8_t retransmits_limit = 0;  // tcp_retries2; 0 = unknown
  Duration user_timeout{};             // TCP_USER_TIMEOUT; 0 = not set

  // Listening.
  std::uint32_t ack_backlog = 0;
  std::uint32_t max_ack_backlog = 0;

  // User reads.
  std::uint32_t read_epoch = 0;                   // the epoch of min and max; 0 = never read
  std::optional<std::uint32_t> min_unread_bytes;  // absent: no read of that epoch could prove anything
  std::uint32_t max_unread_bytes = 0;
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t closed_window_reads = 0;
  std::uint64_t empty_reads = 0;
  std::uint32_t run_bytes = 0;  // see ReadCounts
  std::uint64_t run_reads = 0;
  MonoTime first_read_at;  // the first one of read_epoch; unknown: not told, or never
  MonoTime last_read;    // unknown: never since we look
  MonoTime opened;       // unknown: before we looked, or never
  MonoTime peer_closed_at;
  MonoTime shutdown_at;  // our FIN
  MonoTime ended_at;     // by a RST or a timeout

  bool is_listener() const { return transport == Transport::Tcp && state == TcpState::Listen; }
  // Connected once, and no more; some process holds it all the same.
  bool is_ended() const { return transport == Transport::Tcp && state == TcpState::Close && has_file && tuple.peer.port != 0; }
  // Whether the program has read the end of file; absent: one read took the last bytes with it, or nobody saw.
  std::optional<bool> has_read_end() const
  {
    if (eof_seen || fin_unread)
      return eof_seen;
    if (eof_eaten || !peer_closed)
      return std::nullopt;
    if (known(peer_closed_at))
      return false;  // we have watched since
    return fin_read ? std::optional(true) : std::nullopt;
  }
  // What is unread was left behind by a read that could have taken it, and the peer, which could send more, does not.
  bool is_leftover() const { return leftover_bytes > 0 && leftover_bytes == unread_bytes && rcv_window_left >= rcv_mss; }
};

// What a tick brings of one socket: a connection does not keep the histogram.
struct FullSample : SocketSample {
  SizeHistogram sizes{};
  ReadCounts read_counts() const { return {reads, read_bytes, closed_window_reads, run_reads, run_bytes, sizes}; }
};

// A socket of which nothing has changed since its last sample.
struct StillSample {
  std::uint64_t cookie = 0;
  MonoTime time;
};

// A socket with nothing to do: a connection that was used and is empty in both directions, or a UDP socket with an empty
// queue.
struct PooledSample {
  std::uint64_t cookie = 0;
  ProcessId owner;      // who connected, listened, read or held it first
  Tuple tuple;
  std::uint32_t netns = 0;
  bool connected = false;  // connect() was seen; else it is older than us and may be either end
  MonoTime opened;      // unknown: before we looked
  MonoTime idle_since;  // nothing came or went since; UDP: nothing was read
  bool accepted = false;
  Transport transport = Transport::Tcp;
};

struct ProcessSample {
  ProcessId id;
  std::string comm;  // as the program set it: any bytes
  std::uint32_t vpid = 0;
  std::uint32_t uid = 0;
  std::uint64_t cgroup_id = 0;
  std::uint64_t anon_bytes = 0;  // resident anonymous memory
  std::uint64_t swap_bytes = 0;
  std::uint64_t shmem_bytes = 0;  // resident shared memory, mapped by others or not
  std::uint64_t error_bytes = 0;  // each of the three may be off by this
  std::uint64_t read_bytes = 0;   // total of all its sockets, closed ones included
  std::uint32_t threads = 0;      // 0 = unknown
  bool waits_in_epoll = false;    // its first thread sleeps in epoll_wait()
  bool uses_sockets = false;      // has read, or closed, a TCP or UDP socket; false: perhaps all the same
  std::uint64_t data_bytes = 0;   // private memory that it may write, resident or not
  std::uint32_t exe_device = 0;   // of its executable; 0 = unknown
  std::uint64_t exe_inode = 0;
  std::uint64_t private_bytes() const { return anon_bytes + swap_bytes; }
};

struct Holder {
  std::uint64_t cookie = 0;
  ProcessId process;
  std::uint32_t fd = 0;
};

// Memory that a process gained with one socket while its growth was attributed.
struct GrowthSample {
  ProcessId process;
  MonoTime begin;
  MonoTime end;
  bool complete = false;           // observed for as long as was asked for
  std::uint64_t cookie = 0;        // 0: no socket
  std::uint64_t kernel_bytes = 0;  // filled by the kernel while it copied out of the socket; cookie 0: by other system calls
  std::uint64_t user_bytes = 0;    // touched by a thread whose last read was of this socket; cookie 0: that read none
  std::uint64_t lost_bytes = 0;    // of the whole attribution
  std::uint64_t limit_bytes = 0;   // of the cgroup with the least room; 0 = none or unknown
  std::uint64_t headroom_bytes = 0;
  bool accepted = false;           // the socket came out of a listener; false: perhaps all the same
  // By the process, while it was attributed; cookie 0: of all sockets that no growth came with.
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t turns = 0;     // reads that follow each other closely are one; cookie 0: of accepted ones
  std::uint64_t answered = 0;  // turns after which the process sent something over the same socket
};

inline constexpr std::size_t kPairAges = 32;
inline constexpr Duration kPairAge = std::chrono::milliseconds(250);

// Operations of one process that a pair of probes watches. Totals since the process was first seen.
struct PairSample {
  ProcessId process;
  std::string name;  // of the pair
  MonoTime time;
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;
  std::uint64_t unmatched = 0;    // ends of what began before we looked
  std::uint64_t lost = 0;         // begins that there was no room to remember
  std::uint64_t outstanding = 0;
  MonoTime oldest_begin;          // of the outstanding; unknown: there are none
  MonoTime last_end;              // unknown: none ended yet
  Duration slowest{};             // the longest that any took that ended
  std::uint64_t unreadable = 0;   // begins and ends whose key could not be read
  std::uint64_t refused = 0;      // begun, and the function said that it failed: not in `begun`
  MonoTime last_match;            // when one that began ended; unknown: none did, or an old recording
  bool begin_seen = true;         // a begin was reached, whatever became of it
  bool end_seen = true;           // an end was, also by another process, where all of them run one file; or none can be passed unseen
  bool by_connection = false;     // keys have two parts, and what overtakes is of the same first one
  bool each = false;              // one that is outstanding for --stall is enough
  std::string what;               // it calls its operations, in the plural; empty: nothing special
  std::string advice;             // empty: the usual
  // Outstanding by age, bucket b: from kPairAge times 2^(b/2) on. Overtaken: one that began later has ended.
  std::array<std::uint32_t, kPairAges> overtaken{};
  std::array<std::uint32_t, kPairAges> waiting{};
  std::string stack;              // function names, innermost first, a line each: any bytes; empty: unknown
  std::uint32_t stack_count = 0;  // of the overtaken that it began; of all outstanding where none was overtaken
};

// Where a process runs; of a cgroup where nobody knows the process.
struct WorkloadSample {
  ProcessId process;            // nobody: of the cgroup
  std::uint64_t cgroup_id = 0;  // cgroup v2; 0 = unknown
  Workload workload;
};

// Totals since start.
struct Losses {
  std::uint64_t ring_full = 0;    // socket records
  std::uint64_t no_storage = 0;   // sockets that the kernel had no memory to track
  std::uint64_t no_totals = 0;    // per-process byte totals
  // Events that passed unseen: where a tracing program can be preempted (Linux 7), others skip it on that CPU meanwhile.
  // No record is lost with them, counts of reads are that much lower.
  std::uint64_t skipped_runs = 0;
  std::uint64_t total() const { return ring_full + no_storage + no_totals; }
};

struct TickFacts {
  MonoTime time;
  WallTime wall_time;
  Duration since_boot{};          // includes suspend; what ProcessId::start_ns counts in
  std::uint32_t epoch = 0;
  bool swept = false;             // every tracked socket was looked at: one that was not shown since `swept_from` is idle, drained or gone
  MonoTime swept_from;            // unknown: in this tick alone
  bool looked_again = false;      // some sockets were looked at for the second time in a sweep that goes on
  bool walked_holders = false;    // `holders` of the ticks since the last that said so are all of them
  bool walked_processes = false;  // `processes` is all of them
  bool looked_at_pools = false;   // `pooled` of the ticks since the last that said so are all of them
  bool can_attribute = false;     // growth can be attributed on demand
  Duration meant_interval{};      // from tick to tick; 0 = unknown
  Duration sweep_cpu{};
  Duration sweep_period{};
  std::uint64_t sockets_visited = 0;
  std::uint64_t host_available_bytes = 0;  // 0 = unknown
  std::uint64_t host_shmem_bytes = 0;      // 0 = unknown
  Losses lost;

  WallTime started_at(ProcessId id) const
  {
    return wall_time - (since_boot - Duration{static_cast<std::int64_t>(id.start_ns)});
  }
};

struct Tick : TickFacts {
  std::vector<FullSample> sockets;  // one socket may appear more than once
  std::vector<StillSample> still;   // of sockets that were shown before
  std::vector<std::uint64_t> gone;    // cookies
  std::vector<Holder> holders;
  std::vector<ProcessSample> processes;
  std::vector<PooledSample> pooled;
  std::vector<GrowthSample> growths;  // of the attributions that ended
  std::vector<PairSample> pairs;
  std::vector<WorkloadSample> workloads;  // new, or not what it was
};

}  // namespace laggard::model
