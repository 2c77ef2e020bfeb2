// SPDX-License-Identifier: GPL-2.0
// Maps and globals that every feed shares. Weak: each object carries them, bpftool's linker keeps one.
#ifndef LAGGARD_BPF_MAPS_H
#define LAGGARD_BPF_MAPS_H

#include "kernel.h"
#include <laggard/abi/records.h>

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
  __type(key, int);
  __type(value, struct laggard_sock_state);
} sockets __weak SEC(".maps");

// Socket records that cannot wait for the sweep: first reads of an epoch, ends. User space sizes it by CPUs.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} ring __weak SEC(".maps");

struct process_totals {
  __u64 read_bytes;  // that all its sockets were read for
  __u64 used;        // sockets that had a peer or a listener, or were read; of those that never had any, which it closed, SOCKETS_TRIED
                     // count as one: a runtime tries out at its start what the kernel can (a JVM: two)
};
#define SOCKETS_TRIED 10

// By tgid. LRU: a full map forgets a process that reads nothing, and user space sees a total that fell, which starts a new
// baseline. User space makes it larger where there are many CPUs (source/live/map_size.h).
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 8192);
  __type(key, __u32);
  __type(value, struct process_totals);
} totals __weak SEC(".maps");

// Who looks once has no use for what has changed since: the verifier then leaves that out.
const volatile __u8 looks_once __weak = false;
const volatile __u64 ring_bytes __weak = 1 << 20;

// Wake the reader only when the ring fills; else it looks once per tick.
static __always_inline __u64 ring_flags(void)
{
  return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > ring_bytes / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

// First reads that were announced in this epoch, and how many may be: user space writes both.
__u64 announced __weak = 0;
volatile __u64 announced_at_most __weak = 0;

// Sockets that may be given a state until the next tick; user space writes it. The kernel charges states to user space's cgroup, and
// nobody can reclaim them: where that has a limit, they must leave room for user space.
volatile __s64 states_left __weak = 0;

// The tick that runs; user space writes it. 0 = nobody watches yet, 0 is never an epoch.
volatile __u32 epoch __weak = 0;
// enum laggard_lost_kind; racy increments are atomic.
__u64 lost[LAGGARD_LOST_COUNT] __weak = {};
__u64 visited __weak = 0;
// What the next walks shall do; user space writes it before it reads from their iterator.
__u32 emit_everything __weak = 0;
__u32 emit_pooled __weak = 0;
__u32 emit_holders __weak = 0;
// The number of the sweep that is read from; user space writes it. Two may be under way at a time. 0 is none.
volatile __u32 sweep_number __weak = 0;
// A read of a sweep shows no more sockets than this for the first time: the others come with the next sweep.
volatile __u64 new_at_most __weak = 0;
__u64 new_shown __weak = 0;
// A walk over files has met an MPTCP listener whose accept queue is not empty: it cannot go on from there.
__u32 mptcp_waits __weak = 0;
// Whose first socket that walk has shown last.
__u32 holder_shown __weak = 0;
__u64 mptcp_ids __weak = 0;

// 1e9 / CONFIG_HZ, from clock_getres(CLOCK_MONOTONIC_COARSE).
const volatile __u64 ns_per_jiffy __weak = 4000000;

static __always_inline void count_lost(enum laggard_lost_kind kind)
{
  __sync_fetch_and_add(&lost[kind], 1);
}

static __always_inline __u64 jiffies_to_mono(__u64 then, __u64 now_jiffies, __u64 now_ns)
{
  return then ? now_ns - (now_jiffies - then) * ns_per_jiffy : 0;
}

#endif
