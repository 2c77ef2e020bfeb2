// SPDX-License-Identifier: MIT
// The wire: fixed records that the BPF programs write (ring buffer, iterators), that user space stores unchanged in a
// recording, and that source/decode turns into model types. Nothing else reads them.
//
// Byte order and alignment are the host's; a recording says which. Times are CLOCK_MONOTONIC nanoseconds, 0 = unknown.
// `size` travels with every record: a longer record comes from a newer writer and its tail is ignored, a shorter one
// from an older writer and its missing tail reads as 0, so a field that is added later must treat 0 as "absent". One that is
// shorter than the first version of its kind is damage.
#ifndef LAGGARD_ABI_RECORDS_H
#define LAGGARD_ABI_RECORDS_H

#include "sock_state.h"

// kind name, number, struct, size of its first version. Numbers are for ever, and no writer has made a shorter record.
#define LAGGARD_RECORD_KINDS(X)               \
  X(TICK, 1, laggard_tick_record, 104)        \
  X(SOCKET, 2, laggard_socket_record, 368)    \
  X(GONE, 3, laggard_gone_record, 24)         \
  X(HOLDER, 4, laggard_holder_record, 32)     \
  X(PROCESS, 5, laggard_process_record, 104)  \
  X(POOLED, 6, laggard_pooled_record, 96)     \
  X(GROWTH, 7, laggard_growth_record, 88)     \
  X(PAIR, 8, laggard_pair_record, 864)        \
  X(WORKLOAD, 9, laggard_workload_record, 1816) \
  X(STILL, 10, laggard_still_record, 24)

#define LAGGARD_RECORD_ENUM(name, number, type, first_bytes) LAGGARD_RECORD_##name = number,
enum laggard_record_kind { LAGGARD_RECORD_KINDS(LAGGARD_RECORD_ENUM) };
#undef LAGGARD_RECORD_ENUM

#define LAGGARD_UNKNOWN_U32 0xffffffffu

// Losses, counted where they happen.
#define LAGGARD_LOST_KINDS(X) \
  X(RING_FULL, 0)             \
  X(NO_STORAGE, 1)            \
  X(NO_TOTALS, 2)

#define LAGGARD_LOST_ENUM(name, number) LAGGARD_LOST_##name = number,
enum laggard_lost_kind { LAGGARD_LOST_KINDS(LAGGARD_LOST_ENUM) LAGGARD_LOST_COUNT };
#undef LAGGARD_LOST_ENUM

struct laggard_record_header {
  __u16 kind;   // enum laggard_record_kind
  __u16 size;   // of the whole record, this header included; a multiple of 8
  __u32 epoch;  // the tick it was written in
};

// laggard_tick_record.coverage: which walks this tick holds, each complete
#define LAGGARD_COVERS_SWEEP 0x1u      // every tracked socket was looked at; what is not here is idle or gone
#define LAGGARD_COVERS_HOLDERS 0x2u    // every file of every process
#define LAGGARD_COVERS_PROCESSES 0x4u  // every process
#define LAGGARD_COVERS_POOLED 0x8u     // every connection that a POOLED record fits
#define LAGGARD_CAN_ATTRIBUTE 0x10u    // growth can be attributed on demand: a suspect is worth waiting for
#define LAGGARD_LOOKED_AGAIN 0x20u     // a part of the sockets was looked at for the second time in a sweep that takes many ticks

// First record of every tick; written by user space.
struct laggard_tick_record {
  struct laggard_record_header header;
  __u64 mono_ns;
  __u64 realtime_ns;
  __u64 boottime_ns;     // CLOCK_BOOTTIME: what start_ns of a process counts in
  __u64 page_bytes;
  __u32 coverage;        // LAGGARD_COVERS_*
  __u32 sweep_cpu_us;    // CPU time of this tick's walks
  __u64 sockets_visited; // by this tick's sweep
  __u64 sweep_period_ns; // how long until the next one, at the present cost
  __u64 lost[LAGGARD_LOST_COUNT];  // totals since start
  __u64 host_memory_available_bytes;  // MemAvailable; 0 = unknown
  __u64 host_shmem_bytes;             // Shmem; 0 = unknown
  __u64 skipped_runs;                 // total since start of events that found their program interrupted on the same CPU
  __u64 interval_ns;                  // how far apart ticks are meant to be
  __u64 swept_from_ns;                // when the sweep began that ends with this tick: its records are in all ticks since
};

// One socket at one moment: from the sweep, or from the socket's own first read in an epoch.
struct laggard_socket_record {
  struct laggard_record_header header;
  __u64 cookie;
  __u64 mono_ns;
  __u64 owner_start_ns;
  __u64 cgroup_id;  // cgroup v2 id; 0 = none
  __u64 inode;      // of the socket file; 0 = no file
  __u8 local[16];   // network order; IPv4 in the first four bytes
  __u8 peer[16];
  __u16 local_port;  // host order
  __u16 peer_port;
  __u8 family;    // AF_INET, AF_INET6
  __u8 protocol;  // IPPROTO_TCP, IPPROTO_UDP
  __u8 state;     // TCP_ESTABLISHED ...
  __u8 shutdown;  // RCV_SHUTDOWN | SEND_SHUTDOWN
  __u32 netns;    // inode of the namespace
  __u32 flags;    // LAGGARD_F_*
  __u32 owner_tgid;
  __u32 reader_tgid;

  __u32 unread_bytes;        // TCP: what SIOCINQ says; UDP: Recv-Q as ss shows it (truesize)
  __u32 rcv_nxt;             // TCP: as is; UDP: datagrams read + datagrams queued, mod 2^32
  __u32 copied_seq;          // TCP: as is; UDP: datagrams read, mod 2^32
  __u32 rcv_window_left;     // rcv_wup + rcv_wnd - rcv_nxt
  __u32 rcv_mss;
  __u32 sk_rmem_alloc;       // truesize
  __u32 sk_rcvbuf;
  __u32 queued_packets;      // buffers in the receive queue; UDP: datagrams
  __u32 snd_una;
  __u32 write_seq;
  __u32 snd_wnd;
  __u32 sk_ack_backlog;      // listening: children that wait for accept
  __u32 sk_max_ack_backlog;
  __u32 read_epoch;          // the epoch that the next two belong to
  __u32 min_unread_bytes;    // LAGGARD_UNKNOWN_U32 = no read of that epoch qualified
  __u32 max_unread_bytes;
  __u64 drops;               // receive drops since the socket exists
  __u64 rwnd_limited_ns;     // chrono_stat of the receive-window span, the running span included
  __u64 bytes_received;      // TCP, since the connection exists
  __u64 bytes_acked;         // TCP
  __u64 last_arrival_ns;     // TCP: lrcvtime

  __u64 run_reads;
  __u64 reads;
  __u64 read_bytes;
  __u64 closed_window_reads;
  __u64 empty_reads;
  __u64 last_read_ns;
  __u64 opened_ns;
  __u64 peer_closed_ns;
  __u64 shutdown_ns;
  __u32 run_bytes;
  __u32 sizes[LAGGARD_SIZE_BUCKETS];
  __u64 last_ack_ns;       // TCP: rcv_tstamp, when the peer acknowledged anything last
  __u64 ended_ns;          // TCP: when a RST or a timeout ended it; 0 = not so, or not seen
  __u32 leftover_bytes;    // TCP: unread bytes, if all of them were there at the last read; else 0
  __u32 user_timeout_ms;   // TCP_USER_TIMEOUT; 0 = not set
  __u8 icsk_retransmits;   // times that the retransmission timer has fired since the last acknowledgment
  __u8 icsk_probes_out;    // window probes without an answer
  __u8 icsk_backoff;
  __u8 tcp_retries2;       // net.ipv4.tcp_retries2 of its network namespace
  __u32 padding;
  __u64 first_read_ns;     // of read_epoch; 0 = never, or an older recording
};

// A socket of which nothing has changed since its last SOCKET record of a sweep: that one, at another time.
struct laggard_still_record {
  struct laggard_record_header header;
  __u64 cookie;
  __u64 mono_ns;
};

// An announced socket was destroyed.
struct laggard_gone_record {
  struct laggard_record_header header;
  __u64 cookie;
  __u64 mono_ns;
};

// A process holds a socket open, under this descriptor.
struct laggard_holder_record {
  struct laggard_record_header header;
  __u64 cookie;
  __u64 start_ns;
  __u32 tgid;
  __u32 fd;
};

// A socket with nothing to do: a TCP connection that carried bytes and has none queued in either direction, or a UDP socket
// with an empty queue.
struct laggard_pooled_record {
  struct laggard_record_header header;
  __u64 cookie;
  __u64 owner_start_ns;
  __u64 opened_ns;      // 0 = before we looked
  __u64 idle_since_ns;  // the latest of the last arrival and the last sending, accepted ones: and the last acknowledgment;
                        // UDP: of the last read and when it was first seen, for no sending is known
  __u8 local[16];       // as in laggard_socket_record
  __u8 peer[16];
  __u16 local_port;
  __u16 peer_port;
  __u32 netns;
  __u32 owner_tgid;
  __u32 flags;          // LAGGARD_F_*
  __u8 family;
  __u8 protocol;        // IPPROTO_UDP, else TCP
  __u8 padding[6];
};

// laggard_process_record.waits
#define LAGGARD_WAITS_OTHERWISE 0u  // runs, or sleeps in something else
#define LAGGARD_WAITS_EPOLL 1u      // sleeps in epoll_wait()

// A process and its memory.
struct laggard_process_record {
  struct laggard_record_header header;
  __u64 start_ns;   // start_boottime: tgid and start_ns together are an identity
  __u64 cgroup_id;  // cgroup v2 id; 0 = none
  __u32 tgid;
  __u32 vpid;       // in its own pid namespace
  __u32 uid;
  __u32 rss_error_pages;  // the page counters below may be off by this much, each
  __u64 anon_pages;
  __u64 swap_pages;
  __u64 shmem_pages;
  __u64 data_vm_pages;
  __u64 brk_bytes;   // brk - start_brk
  __u64 read_bytes;  // all sockets ever read by it, closed ones too, up to each socket's last finished epoch
  char comm[16];
  __u32 threads;     // 0 = unknown
  __u32 waits;       // LAGGARD_WAITS_*: what the thread group's leader does
  __u32 uses_sockets;  // 1: it has read a TCP or UDP socket, or closed one that was in use, or tried ten; 0 = unknown
  __u32 exe_device;    // of its executable, as the kernel counts; 0 = unknown
  __u64 exe_inode;
};

// laggard_growth_record.flags
#define LAGGARD_GROWTH_COMPLETE 0x1u  // observed for as long as was asked for
#define LAGGARD_GROWTH_ACCEPTED 0x2u  // the socket came out of a listener that we knew

// What memory a process gained with one socket while its growth was attributed (abi/growth.h); written by user space when
// the attribution ends, one per socket that it gained anything with, and always one with cookie 0 for what no socket
// explains: its reads are those of all other sockets.
struct laggard_growth_record {
  struct laggard_record_header header;
  __u64 start_ns;  // of the process
  __u64 begin_ns;
  __u64 end_ns;
  __u64 cookie;
  __u64 kernel_pages;
  __u64 user_pages;
  __u64 lost_pages;                   // of the whole attribution: there were more sockets than could be counted
  __u64 memory_limit_bytes;           // of the cgroup with the least room; 0 = none or unknown
  __u64 memory_limit_headroom_bytes;  // left below that limit, page cache counted as free
  __u32 tgid;
  __u32 flags;
  __u64 reads;
  __u64 read_bytes;
  __u64 turns;     // see abi/growth.h; cookie 0: of accepted sockets only
  __u64 answered;
};

#define LAGGARD_PAIR_AGES 32
#define LAGGARD_PAIR_AGE_NS 250000000ull

// Operations of one process that one pair of probes watches (abi/pairs.h); written by user space, with every tick that
// looked at them.
struct laggard_pair_record {
  struct laggard_record_header header;
  __u64 start_ns;  // of the process
  __u64 mono_ns;
  __u64 begun;      // totals since the process was first seen
  __u64 ended;
  __u64 unmatched;  // ends of what began before we looked
  __u64 lost;       // begins that there was no room to remember
  __u64 outstanding;
  __u64 oldest_begin_ns;  // of those that are outstanding; 0 = none
  __u64 last_end_ns;      // 0 = none ended yet
  __u64 slowest_ns;       // the longest that any took that ended
  __u64 unreadable;       // begins and ends whose key could not be read
  // Outstanding operations by age, bucket b: from LAGGARD_PAIR_AGE_NS times 2^(b/2) on. Overtaken: one that began later has
  // ended.
  __u32 overtaken[LAGGARD_PAIR_AGES];
  __u32 waiting[LAGGARD_PAIR_AGES];
  __u32 tgid;
  __u32 stack_count;  // of the overtaken that `stack` began; of all that are outstanding where none was overtaken
  char name[32];      // of the pair
  char stack[472];    // function names, innermost first, a line each; empty: unknown
  // 0 in older recordings.
  __u64 refused;          // begun, and the function said that it failed: not in `begun`
  __u64 last_matched_ns;  // of those that ended what began
  __u32 flags;            // LAGGARD_PAIR_*
  __u32 padding;
  char what[64];     // it calls its operations, in the plural; empty: nothing special
  char advice[192];  // empty: the usual
};
#define LAGGARD_PAIR_BEGIN_SEEN 1u  // a begin was reached, whatever became of it
#define LAGGARD_PAIR_END_SEEN 2u    // an end was, also by another process, where all of them run one file; or none can be passed unseen
#define LAGGARD_PAIR_EACH 4u        // one that is outstanding for --stall is enough
#define LAGGARD_PAIR_TELLS_SEEN 8u  // older recordings do not know
#define LAGGARD_PAIR_BY_CONNECTION 16u  // keys have two parts, and what overtakes is of the same first one

// Where a process runs, or what is in a cgroup if nobody knows the process; written by user space when it first tells of it
// and whenever that changes. Texts end with a 0 or with their field; empty = not known, or not so.
struct laggard_workload_record {
  struct laggard_record_header header;
  __u64 start_ns;
  __u64 cgroup_id;  // cgroup v2 id; 0 = unknown
  __u32 tgid;       // 0: of the cgroup
  __u32 padding;
  char container_id[64];
  char container_runtime_name[16];
  char k8s_pod_uid[40];
  char k8s_namespace_name[64];   // names of labels and pods: RFC 1123, at most 63 and 253
  char k8s_container_name[64];
  char k8s_pod_name[256];
  char systemd_unit[256];        // NAME_MAX of the cgroup
  char command_line[1024];       // arguments with a space between; empty unless asked for
};

#define LAGGARD_RECORD_CHECK(name, number, type, first_bytes)                              \
  LAGGARD_ABI_ASSERT(sizeof(struct type) % 8 == 0, #type " must keep the stream aligned"); \
  LAGGARD_ABI_ASSERT(sizeof(struct type) >= first_bytes, #type " only grows");
LAGGARD_RECORD_KINDS(LAGGARD_RECORD_CHECK)
#undef LAGGARD_RECORD_CHECK

#endif
