// SPDX-License-Identifier: GPL-2.0
// One way to write a socket record, whoever writes it.
#ifndef LAGGARD_BPF_RECORD_H
#define LAGGARD_BPF_RECORD_H

#include "compat.bpf.h"
#include "maps.bpf.h"

static __always_inline __u64 cookie_of(struct sock *sk, const struct laggard_sock_state *state)
{
  return sk->sk_protocol == IPPROTO_MPTCP ? state->mptcp_id : bpf_get_socket_cookie(sk);
}

static __always_inline void renew_id(struct laggard_sock_state *state)
{
  state->mptcp_id = (1ULL << 62) + __sync_fetch_and_add(&mptcp_ids, 1);
}

// A macro, for the records that have addresses name them alike.
#define FILL_ADDRESSES(record, sk) fill_addresses((record)->local, (record)->peer, &(record)->local_port, &(record)->peer_port, sk)
static __always_inline void fill_addresses(__u8 *to_local, __u8 *to_peer, __u16 *local_port, __u16 *peer_port,
                                           const struct sock *sk)
{
  const struct sock_common *common = &sk->__sk_common;
  __builtin_memset(to_local, 0, 16);
  __builtin_memset(to_peer, 0, 16);
  if (common->skc_family == AF_INET6) {
    bpf_probe_read_kernel(to_local, 16, &common->skc_v6_rcv_saddr);
    bpf_probe_read_kernel(to_peer, 16, &common->skc_v6_daddr);
  } else {
    __be32 local = common->skc_rcv_saddr, peer = common->skc_daddr;
    __builtin_memcpy(to_local, &local, 4);
    __builtin_memcpy(to_peer, &peer, 4);
  }
  *local_port = local_port_of(sk);
  *peer_port = __builtin_bswap16(common->skc_dport);
}

static __always_inline void fill_positions(struct laggard_socket_record *record, struct laggard_positions positions)
{
  record->unread_bytes = positions.unread_bytes;
  record->rcv_nxt = positions.rcv_nxt;
  record->copied_seq = positions.copied_seq;
}

static __always_inline void fill_tcp(struct laggard_socket_record *record, struct sock *sk,
                                     const struct laggard_sock_state *state, __u64 now_jiffies)
{
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return;
  __u32 copied_seq = LOAD_ONCE(tp->copied_seq);
  __u32 rcv_nxt = LOAD_ONCE(tp->rcv_nxt);
  fill_positions(record, tcp_positions_of(sk, rcv_nxt, copied_seq));
  record->rcv_window_left = tcp_window_left(tp, rcv_nxt);
  record->rcv_mss = tp->inet_conn.icsk_ack.rcv_mss;
  record->snd_una = tp->snd_una;
  record->write_seq = tp->write_seq;
  record->snd_wnd = tp->snd_wnd;
  record->rwnd_limited_ns = rwnd_limited_jiffies(tp, now_jiffies) * ns_per_jiffy;
  if (is_rwnd_limited(tp))
    record->flags |= LAGGARD_F_RWND_LIMITS;
  record->bytes_received = tp->bytes_received;
  record->bytes_acked = tp->bytes_acked;
  __u64 arrival = widen_jiffies(tp->inet_conn.icsk_ack.lrcvtime, now_jiffies);
  record->last_arrival_ns = jiffies_to_mono(arrival, now_jiffies, record->mono_ns);
  __u64 ack = widen_jiffies(tp->rcv_tstamp, now_jiffies);
  record->last_ack_ns = jiffies_to_mono(ack, now_jiffies, record->mono_ns);
  if (state->read_rcv_nxt && state->read_rcv_nxt == rcv_nxt)
    record->leftover_bytes = record->unread_bytes;
  record->icsk_retransmits = tp->inet_conn.icsk_retransmits;
  record->icsk_probes_out = tp->inet_conn.icsk_probes_out;
  record->icsk_backoff = tp->inet_conn.icsk_backoff;
  record->user_timeout_ms = tp->inet_conn.icsk_user_timeout;
  record->tcp_retries2 = BPF_CORE_READ(sk, __sk_common.skc_net.net, ipv4.sysctl_tcp_retries2);
  if (record->flags & LAGGARD_F_SOCK_DONE)  // seen before rcv_nxt was loaded: rcv_nxt counts the FIN
    record->flags |= rcv_nxt != copied_seq ? LAGGARD_F_FIN_UNREAD : LAGGARD_F_FIN_READ;
  if (sk->__sk_common.skc_flags & (1UL << bpf_core_enum_value(enum sock_flags, SOCK_KEEPOPEN)))
    record->flags |= LAGGARD_F_KEEPALIVE;
}

// No such numbers of the connection as a whole: of its window, of retransmissions.
static __always_inline void fill_mptcp(struct laggard_socket_record *record, const struct sock *sk,
                                       const struct laggard_sock_state *state)
{
  const struct mptcp_sock *msk = (const struct mptcp_sock *)sk;
  record->protocol = IPPROTO_TCP;
  if (record->state == TCP_LISTEN) {
    const struct sock *first = BPF_CORE_READ(msk, first);
    record->sk_ack_backlog = BPF_CORE_READ(first, sk_ack_backlog);
    record->sk_max_ack_backlog = BPF_CORE_READ(first, sk_max_ack_backlog);
    record->drops = (__u32)BPF_CORE_READ(first, sk_drops.counter);
    return;
  }
  fill_positions(record, mptcp_positions(sk));
  record->rcv_mss = 1;
  record->rcv_window_left = record->sk_rcvbuf > record->sk_rmem_alloc ? record->sk_rcvbuf - record->sk_rmem_alloc : 0;
  record->snd_una = BPF_CORE_READ(msk, snd_una);
  record->write_seq = BPF_CORE_READ(msk, write_seq);
  record->bytes_received = bpf_core_field_exists(msk->bytes_received) ? BPF_CORE_READ(msk, bytes_received) : record->rcv_nxt;
  if (state->read_rcv_nxt && state->read_rcv_nxt == record->rcv_nxt)
    record->leftover_bytes = record->unread_bytes;
}

// A run of equal reads is accounted when it ends, so that the read hook does next to nothing while it lasts.
static __always_inline __u64 total_read_bytes(const struct laggard_sock_state *state)
{
  return state->ended_bytes + (__u64)state->run_bytes * state->run_reads;
}

static __always_inline __u64 total_reads(const struct laggard_sock_state *state)
{
  __u64 reads = state->run_reads;
  for (int bucket = 0; bucket < LAGGARD_SIZE_BUCKETS; bucket++)
    reads += state->sizes[bucket];
  return reads;
}

// There is no helper from sock to udp_sock that every supported kernel has: bpf_skc_to_udp6_sock() is IPv6 only. A
// udp_sock begins with its sock, so CO-RE reads through the cast do.
static __always_inline void fill_udp(struct laggard_socket_record *record, const struct sock *sk)
{
  const struct udp_sock *up = (const struct udp_sock *)sk;
  int bytes = sk->sk_backlog.rmem_alloc.counter - BPF_CORE_READ(up, forward_deficit);
  record->unread_bytes = bytes > 0 ? bytes : 0;
  record->queued_packets += BPF_CORE_READ(up, reader_queue.qlen);
  record->copied_seq = (__u32)record->reads;
  record->rcv_nxt = record->copied_seq + record->queued_packets;
}

// The FIN is taken out of rcv_nxt and copied_seq here, so that for everybody after this point
// rcv_nxt - copied_seq == unread_bytes (TCP) or unread datagrams (UDP).
static __always_inline void fill_socket_record(struct laggard_socket_record *record, struct sock *sk,
                                               const struct laggard_sock_state *state)
{
  __u64 now_jiffies = bpf_jiffies64();

  __builtin_memset(record, 0, sizeof(*record));
  record->header.kind = LAGGARD_RECORD_SOCKET;
  record->header.size = sizeof(*record);
  record->header.epoch = epoch;
  record->mono_ns = bpf_ktime_get_ns();
  record->cookie = cookie_of(sk, state);
  record->owner_start_ns = state->owner_start_ns;
  record->owner_tgid = state->owner_tgid;
  record->reader_tgid = state->reader_tgid;
  record->flags = state->flags;
  FILL_ADDRESSES(record, sk);
  record->family = sk->__sk_common.skc_family;
  record->protocol = sk->sk_protocol;
  record->state = sk->__sk_common.skc_state;
  record->shutdown = sk->sk_shutdown;
  record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
  if (bpf_core_field_exists(sk->sk_cgrp_data))
    record->cgroup_id = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
  struct file *file = BPF_CORE_READ(sk, sk_socket, file);
  if (file) {
    record->flags |= LAGGARD_F_HAS_FILE;
    record->inode = BPF_CORE_READ(file, f_inode, i_ino);
    if (BPF_CORE_READ(file, f_ep, first))
      record->flags |= LAGGARD_F_IN_EPOLL;
  }
  if (fin_queued(sk))
    record->flags |= LAGGARD_F_SOCK_DONE;

  if (is_unaccepted(sk))
    record->flags |= LAGGARD_F_UNACCEPTED;

  record->sk_rmem_alloc = sk->sk_backlog.rmem_alloc.counter;
  record->sk_rcvbuf = sk->sk_rcvbuf;
  record->queued_packets = sk->sk_receive_queue.qlen;
  record->sk_ack_backlog = sk->sk_ack_backlog;
  record->sk_max_ack_backlog = sk->sk_max_ack_backlog;
  record->drops = receive_drops(sk);
  record->read_epoch = state->epoch;
  record->min_unread_bytes = state->min_unread_bytes;
  record->max_unread_bytes = state->max_unread_bytes;
  record->run_bytes = state->run_bytes;
  record->run_reads = state->run_reads;
  record->reads = total_reads(state);
  record->read_bytes = total_read_bytes(state);
  record->closed_window_reads = state->closed_window_reads;
  record->empty_reads = state->empty_reads;
  record->first_read_ns = jiffies_to_mono(state->first_read_jiffies, now_jiffies, record->mono_ns);
  record->last_read_ns = jiffies_to_mono(state->last_read_jiffies, now_jiffies, record->mono_ns);
  record->opened_ns = jiffies_to_mono(state->opened_jiffies, now_jiffies, record->mono_ns);
  record->peer_closed_ns = jiffies_to_mono(state->peer_closed_jiffies, now_jiffies, record->mono_ns);
  record->shutdown_ns = jiffies_to_mono(state->shutdown_jiffies, now_jiffies, record->mono_ns);
  record->ended_ns = jiffies_to_mono(state->ended_jiffies, now_jiffies, record->mono_ns);
  for (int bucket = 0; bucket < LAGGARD_SIZE_BUCKETS; bucket++)
    record->sizes[bucket] = (__u32)state->sizes[bucket];
  if (sk->sk_protocol == IPPROTO_TCP)
    fill_tcp(record, sk, state, now_jiffies);
  else if (sk->sk_protocol == IPPROTO_MPTCP)
    fill_mptcp(record, sk, state);
  else
    fill_udp(record, sk);
}

static __always_inline void add_to_totals(__u32 tgid, __u64 read_bytes, __u64 used)
{
  struct process_totals *total = bpf_map_lookup_elem(&totals, &tgid);
  if (total) {
    __sync_fetch_and_add(&total->read_bytes, read_bytes);
    __sync_fetch_and_add(&total->used, used);
    return;
  }
  struct process_totals first = {.read_bytes = read_bytes, .used = used};
  if (bpf_map_update_elem(&totals, &tgid, &first, BPF_NOEXIST))
    count_lost(LAGGARD_LOST_NO_TOTALS);
}

// The bytes that a socket was read for belong to the process that read them, also when the socket lives for less than
// a tick or is never announced. Called at each sweep, at the end of each epoch with reads and at the end of the socket. The total
// may be lower for a moment than what is folded, and be seen too high while it is written: nothing is added until it is reached.
static __always_inline void fold_read_bytes(struct laggard_sock_state *state)
{
  __u64 folded = state->folded_bytes, total = total_read_bytes(state);
  __u32 tgid = state->reader_tgid;
  if (tgid && total > folded && __sync_val_compare_and_swap(&state->folded_bytes, folded, total) == folded)
    add_to_totals(tgid, total - folded, SOCKETS_TRIED);
}

// Of a socket that has none yet. The kernel gives none to one whose last reference is gone: nothing is lost with that.
static __always_inline struct laggard_sock_state *create_state(struct sock *sk)
{
  struct laggard_sock_state *state = NULL;
  if (states_left > 0) {
    state = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    __sync_fetch_and_add(&states_left, -1);
  }
  if (!state && sk->__sk_common.skc_refcnt.refs.counter)
    count_lost(LAGGARD_LOST_NO_STORAGE);
  if (state && !state->mptcp_id && sk->sk_protocol == IPPROTO_MPTCP)
    renew_id(state);
  return state;
}

static __always_inline void set_owner(struct laggard_sock_state *state, struct task_struct *task)
{
  state->owner_start_ns = task->group_leader->start_boottime;
  state->owner_tgid = task->tgid;
}

// Of a socket that a walk over files met at `task`.
static __always_inline struct laggard_sock_state *state_of_file(struct sock *sk, struct task_struct *task)
{
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  if (!state) {
    state = create_state(sk);
    if (!state)
      return NULL;
    // The seeding walk is the one of epoch 1. What turns up later is a UDP socket that passed no hook yet.
    if (epoch == 1)
      state->flags = LAGGARD_F_SEEDED;
    else if (sk->sk_protocol == IPPROTO_UDP)
      state->opened_jiffies = bpf_jiffies64();
  }
  if (!state->owner_tgid)
    set_owner(state, task);
  return state;
}

// False: there was no room for it.
static __always_inline bool show_holder(struct seq_file *seq, struct task_struct *task, __u32 fd, struct sock *sk,
                                        const struct laggard_sock_state *state)
{
  struct laggard_holder_record record = {
    .header = {.kind = LAGGARD_RECORD_HOLDER, .size = sizeof(record), .epoch = epoch},
    .cookie = cookie_of(sk, state),
    .start_ns = task->group_leader->start_boottime,
    .tgid = task->tgid,
    .fd = fd,
  };
  return !bpf_seq_write(seq, &record, sizeof(record));
}

#endif
