// SPDX-License-Identifier: GPL-2.0
// Kernel quantities that moved, changed type or are easy to get wrong, each computed in one place.
// All reads are unlocked: a socket in softirq can move by one packet between two fields of one record.
#ifndef LAGGARD_BPF_COMPAT_H
#define LAGGARD_BPF_COMPAT_H

#include "kernel.h"
#include <laggard/abi/records.h>

static __always_inline bool is_inet(const struct sock *sk)
{
  __u16 family = sk->__sk_common.skc_family;
  return family == AF_INET || family == AF_INET6;
}

static __always_inline bool is_tracked(const struct sock *sk)
{
  return is_inet(sk) && (sk->sk_protocol == IPPROTO_TCP || sk->sk_protocol == IPPROTO_UDP);
}

static __always_inline bool fin_queued(const struct sock *sk)
{
  return sk->__sk_common.skc_flags & (1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE));
}

// Payload that a read could take now, as tcp_inq() says it: a queued FIN counts one in rcv_nxt and is not payload;
// before the handshake ends the sequence numbers mean nothing; urgent data ends what a read can take.
static __always_inline __u32 tcp_unread_bytes(const struct tcp_sock *tp, const struct sock *sk)
{
  __u8 state = sk->__sk_common.skc_state;
  if (state == TCP_LISTEN || state == TCP_SYN_SENT || state == TCP_SYN_RECV)
    return 0;
  __u32 copied_seq = tp->copied_seq;
  __u32 unread = tp->rcv_nxt - copied_seq;
  if ((__s32)unread <= 0)
    return 0;
  return unread - (fin_queued(sk) ? 1 : 0);
}

// A child in an accept queue. A socket that a process has had, and closed, leaves both states with the closing.
static __always_inline bool is_unaccepted(const struct sock *sk)
{
  __u8 state = sk->__sk_common.skc_state;
  return sk->sk_protocol == IPPROTO_TCP && (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT) && !sk->sk_socket;
}

static __always_inline __u32 tcp_window_left(const struct tcp_sock *tp)
{
  __s32 left = (__s32)(tp->rcv_wup + tp->rcv_wnd - tp->rcv_nxt);
  return left > 0 ? left : 0;
}



// 6.18 (commit 51132b99f01c) counts UDP drops per NUMA node behind sk_drop_counters; sk_drops stays 0 there.
static __always_inline __u64 receive_drops(const struct sock *sk)
{
  __u64 drops = (__u32)sk->sk_drops.counter;
  if (bpf_core_field_exists(sk->sk_drop_counters)) {
    const struct numa_drop_counters *counters = sk->sk_drop_counters;
    if (counters)
      drops += (__u32)BPF_CORE_READ(counters, drops0.counter) + (__u64)(__u32)BPF_CORE_READ(counters, drops1.counter);
  }
  return drops;
}

// chrono_stat leaves out the span that is running: a permanent zero window would read as 0.
static __always_inline __u64 rwnd_limited_jiffies(const struct tcp_sock *tp, __u64 now_jiffies)
{
  __u64 spent = tp->chrono_stat[TCP_CHRONO_RWND_LIMITED - 1];
  if (BPF_CORE_READ_BITFIELD(tp, chrono_type) == TCP_CHRONO_RWND_LIMITED)
    spent += (__u32)now_jiffies - tp->chrono_start;
  return spent;
}

// lrcvtime keeps the low 32 bits of jiffies.
static __always_inline __u64 widen_jiffies(__u32 low, __u64 now_jiffies)
{
  return low ? now_jiffies - (__u32)((__u32)now_jiffies - low) : 0;
}

// ---- memory of a process ----

// Before 6.2 (commit f1a7941243c1): plain atomics, plus up to 64 events per thread in the task itself.
struct mm_rss_stat {
  atomic_long_t count[4];
} __attribute__((preserve_access_index));
struct mm_struct___before_6_2 {
  struct mm_rss_stat rss_stat;
} __attribute__((preserve_access_index));

// A __percpu pointer plus the CPU's offset is an address. The offsets are not exported to BPF without kallsyms, but the
// elements of a per-CPU array lie at exactly such addresses, and the array holds the pointer: the difference is the offset.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} cpu_offsets __weak SEC(".maps");

#define LAGGARD_MAX_CPUS 1024
#define LAGGARD_TASK_RSS_EVENTS 64  // mm/memory.c TASK_RSS_EVENTS_THRESH, before 6.2

// Read back from the stack a pointer is a number, and the verifier allows arithmetic on it.
static __always_inline unsigned long address_of(void *pointer)
{
  unsigned long address = 0;
  bpf_probe_read_kernel(&address, sizeof(address), &pointer);
  return address;
}

static __always_inline __s64 percpu_counter_pages(const struct percpu_counter *counter)
{
  __s64 sum = BPF_CORE_READ(counter, count);
  __u32 zero = 0;
  unsigned long counters = (unsigned long)BPF_CORE_READ(counter, counters);
  struct bpf_array *array = (struct bpf_array *)address_of(&cpu_offsets);
  unsigned long origin = (unsigned long)BPF_CORE_READ(array, pptrs[0]);
  for (__u32 cpu = 0; cpu < LAGGARD_MAX_CPUS; cpu++) {
    void *element = bpf_map_lookup_percpu_elem(&cpu_offsets, &zero, cpu);
    __s32 part = 0;
    if (!element)
      break;
    bpf_probe_read_kernel(&part, sizeof(part), (void *)(counters + (address_of(element) - origin)));
    sum += part;
  }
  return sum;
}

static __always_inline __u64 mm_pages(struct mm_struct *mm, int member, __u32 *error_pages)
{
  struct mm_struct___before_6_2 *old = (void *)mm;
  __s64 pages;
  if (bpf_core_field_exists(old->rss_stat.count)) {
    *error_pages = LAGGARD_TASK_RSS_EVENTS;
    pages = BPF_CORE_READ(old, rss_stat.count[member].counter);
  } else {
    // CO-RE does not relocate the stride of an array that is indexed by a variable.
    pages = percpu_counter_pages((void *)mm + bpf_core_field_offset(mm->rss_stat) +
                                 member * bpf_core_type_size(struct percpu_counter));
  }
  return pages > 0 ? pages : 0;
}

#endif
