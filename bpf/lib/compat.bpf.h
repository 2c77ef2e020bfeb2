// SPDX-License-Identifier: GPL-2.0
// Kernel quantities that moved, changed type or are easy to get wrong, each computed in one place.
// All reads are unlocked: a socket in softirq can move by one packet between two fields of one record.
#ifndef LAGGARD_BPF_COMPAT_H
#define LAGGARD_BPF_COMPAT_H

#include "arithmetic.h"
#include "kernel.h"
#include <laggard/abi/records.h>

// The compiler may load a field again wherever it is named again; not with this.
#define LOAD_ONCE(field) (*(const volatile typeof(field) *)&(field))

static __always_inline bool is_inet(const struct sock *sk)
{
  __u16 family = sk->__sk_common.skc_family;
  return family == AF_INET || family == AF_INET6;
}

static __always_inline bool is_stream(const struct sock *sk)
{
  return sk->sk_protocol == IPPROTO_TCP || sk->sk_protocol == IPPROTO_MPTCP;
}

static __always_inline bool is_tracked(const struct sock *sk)
{
  return is_inet(sk) && (is_stream(sk) || sk->sk_protocol == IPPROTO_UDP);
}

// ---- MPTCP (measured on 6.1, 6.12, 6.18, 7.2): the socket that a program has is a mptcp_sock, which carries TCP sockets ----

// One of those TCP sockets. Its listener's accept queue is the program's, the rest of it is the mptcp_sock's to tell.
static __always_inline bool is_subflow(const struct sock *sk)
{
  const struct tcp_sock *tp = (const struct tcp_sock *)sk;
  return sk->sk_protocol == IPPROTO_TCP && bpf_core_field_exists(tp->is_mptcp) && BPF_CORE_READ_BITFIELD_PROBED(tp, is_mptcp);
}

// The first subflow of a connection that nobody has accepted yet. The others wait in no queue, and after close() a subflow
// may stay established without a socket.
static __always_inline bool is_waiting_subflow(const struct sock *sk)
{
  const struct tcp_sock *tp = (const struct tcp_sock *)sk;
  const struct mptcp_subflow_context *context = BPF_CORE_READ(tp, inet_conn.icsk_ulp_data);
  if (!context || BPF_CORE_READ_BITFIELD_PROBED(context, mp_join))
    return false;
  __u8 state = BPF_CORE_READ(context, conn, __sk_common.skc_state);
  return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT;
}

static __always_inline const struct sk_buff *head_of(const struct sk_buff_head *queue)
{
  const struct sk_buff *head = BPF_CORE_READ(queue, next);
  return (const void *)head == (const void *)queue ? NULL : head;
}

// unread_bytes: what SIOCINQ says, but for the DATA_FIN, which it counts.
static __always_inline struct laggard_positions mptcp_positions(const struct sock *sk)
{
  const struct mptcp_sock *msk = (const struct mptcp_sock *)sk;
  const struct sk_buff *skb = NULL;
  if (!bpf_core_field_exists(msk->ack_seq))
    return laggard_positions_of(0, 0, false);
  if (bpf_core_field_exists(msk->bytes_consumed)) {
    __u64 consumed = BPF_CORE_READ(msk, bytes_consumed);
    return laggard_positions_of(BPF_CORE_READ(msk, bytes_received), consumed, false);
  }
  // First: what arrives after it has a map_seq of at least ack_seq.
  __u64 ack_seq = BPF_CORE_READ(msk, ack_seq), map_seq = ack_seq;
  if (bpf_core_field_exists(msk->receive_queue))  // the older data
    skb = head_of((const void *)msk + bpf_core_field_offset(msk->receive_queue));
  if (!skb)
    skb = head_of((const void *)sk + bpf_core_field_offset(sk->sk_receive_queue));
  if (skb) {
    const struct mptcp_skb_cb *cb = (const void *)skb + bpf_core_field_offset(skb->cb);
    map_seq = BPF_CORE_READ(cb, map_seq);  // moves with a read
  }
  __u8 state = sk->__sk_common.skc_state;
  bool fin = state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING || state == TCP_CLOSE;
  return laggard_positions_of(ack_seq, map_seq, fin);
}

static __always_inline bool fin_queued(const struct sock *sk)
{
  return sk->__sk_common.skc_flags & (1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE));
}

// Payload that a read could take now, as tcp_inq() says it; before the handshake ends the sequence numbers mean nothing, and
// urgent data ends what a read can take.
static __always_inline struct laggard_positions tcp_positions_of(const struct sock *sk, __u32 rcv_nxt, __u32 copied_seq)
{
  __u8 state = sk->__sk_common.skc_state;
  if (state == TCP_LISTEN || state == TCP_SYN_SENT || state == TCP_SYN_RECV)
    copied_seq = rcv_nxt;
  return laggard_positions_of(rcv_nxt, copied_seq, fin_queued(sk));
}

static __always_inline __u32 tcp_unread_bytes(const struct tcp_sock *tp, const struct sock *sk)
{
  __u32 copied_seq = LOAD_ONCE(tp->copied_seq);
  return tcp_positions_of(sk, LOAD_ONCE(tp->rcv_nxt), copied_seq).unread_bytes;
}

// A child in an accept queue. A socket that a process has had, and closed, leaves both states with the closing.
static __always_inline bool is_unaccepted(const struct sock *sk)
{
  __u8 state = sk->__sk_common.skc_state;
  return sk->sk_protocol == IPPROTO_TCP && (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT) && !sk->sk_socket &&
         (!is_subflow(sk) || is_waiting_subflow(sk));
}

static __always_inline __u32 tcp_window_left(const struct tcp_sock *tp, __u32 rcv_nxt)
{
  __s32 left = (__s32)(tp->rcv_wup + tp->rcv_wnd - rcv_nxt);
  return left > 0 ? left : 0;
}

// A socket that has lost its connection: one that never had any has neither a peer's port nor a peer's sequence number.
static __always_inline bool is_ended(const struct tcp_sock *tp, const struct sock *sk)
{
  return sk->__sk_common.skc_state == TCP_CLOSE && sk->__sk_common.skc_dport && tp->rcv_nxt && sk->sk_socket;
}

// skc_num is 0 once a socket has lost its connection and with it the port, inet_sport says still which one it was. An
// inet_sock begins with its sock.
static __always_inline __u16 local_port_of(const struct sock *sk)
{
  __u16 port = sk->__sk_common.skc_num;
  return port ? port : __builtin_bswap16(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
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

static __always_inline bool is_rwnd_limited(const struct tcp_sock *tp)
{
  return BPF_CORE_READ_BITFIELD(tp, chrono_type) == TCP_CHRONO_RWND_LIMITED;
}

// chrono_stat leaves out the span that is running: a permanent zero window would read as 0.
static __always_inline __u64 rwnd_limited_jiffies(const struct tcp_sock *tp, __u64 now_jiffies)
{
  __u64 spent = tp->chrono_stat[TCP_CHRONO_RWND_LIMITED - 1];
  if (is_rwnd_limited(tp))
    spent += (__u32)now_jiffies - tp->chrono_start;
  return spent;
}

// ---- what a thread does ----

#if defined(__TARGET_ARCH_x86)
#define NR_EPOLL_WAIT 232
#define NR_EPOLL_PWAIT 281
#elif defined(__TARGET_ARCH_arm64)
#define NR_EPOLL_WAIT 22  // there is epoll_pwait() only
#define NR_EPOLL_PWAIT 22
#endif
#define NR_EPOLL_PWAIT2 441

// Racy: the thread may wake up meanwhile.
static __always_inline bool sleeps_in_epoll_wait(struct task_struct *task)
{
  if (!(task->__state & TASK_INTERRUPTIBLE))
    return false;
  const struct pt_regs *regs = (const struct pt_regs *)bpf_task_pt_regs(task);
#if defined(__TARGET_ARCH_x86)
  long number = BPF_CORE_READ(regs, orig_ax);
#else
  long number = BPF_CORE_READ(regs, syscallno);
#endif
  return number == NR_EPOLL_WAIT || number == NR_EPOLL_PWAIT || number == NR_EPOLL_PWAIT2;
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

static __always_inline __s32 percpu_slot(unsigned long counters, unsigned long origin, void *element)
{
  __s32 part = 0;
  bpf_probe_read_kernel(&part, sizeof(part), (void *)(counters + (address_of(element) - origin)));
  return part;
}

// Where the __percpu pointer of cpu_offsets points.
static __always_inline unsigned long percpu_origin(void)
{
  struct bpf_array *array = (struct bpf_array *)address_of(&cpu_offsets);
  return (unsigned long)BPF_CORE_READ(array, pptrs[0]);
}

static __always_inline __s64 percpu_counter_pages(const struct percpu_counter *counter)
{
  __s64 sum = BPF_CORE_READ(counter, count);
  __u32 zero = 0;
  unsigned long counters = (unsigned long)BPF_CORE_READ(counter, counters), origin = percpu_origin();
  for (__u32 cpu = 0; cpu < LAGGARD_MAX_CPUS; cpu++) {
    void *element = bpf_map_lookup_percpu_elem(&cpu_offsets, &zero, cpu);
    if (!element)
      break;
    sum += percpu_slot(counters, origin, element);
  }
  return sum;
}

// Since 6.2; MM_* `member`. CO-RE does not relocate the stride of an array that is indexed by a variable.
static __always_inline const struct percpu_counter *rss_counter(const struct mm_struct *mm, int member)
{
  return (void *)mm + bpf_core_field_offset(mm->rss_stat) + member * bpf_core_type_size(struct percpu_counter);
}

static __always_inline bool has_percpu_rss(const struct mm_struct *mm)
{
  const struct mm_struct___before_6_2 *old = (const void *)mm;
  return !bpf_core_field_exists(old->rss_stat.count);
}

static __always_inline __u64 mm_pages(struct mm_struct *mm, int member, __u32 *error_pages)
{
  struct mm_struct___before_6_2 *old = (void *)mm;
  __s64 pages;
  if (has_percpu_rss(mm)) {
    pages = percpu_counter_pages(rss_counter(mm, member));
  } else {
    *error_pages = LAGGARD_TASK_RSS_EVENTS;
    pages = BPF_CORE_READ(old, rss_stat.count[member].counter);
  }
  return pages > 0 ? pages : 0;
}

#endif
