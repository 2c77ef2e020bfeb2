// SPDX-License-Identifier: GPL-2.0
// Feed `reads`: what user space takes from each socket, and what it leaves.
//
// The body runs once per receive of the whole host, so it does no more than DESIGN 4.2 allows: one storage lookup,
// direct loads, no timestamps but jiffies. Everything else waits for the first read of an epoch.
#include "lib/record.bpf.h"

// sk is a tcp_sock if its protocol says so. The cast costs nothing, the helper 10 ns of a 490 ns read; but a kernel before
// 6.2 refuses an object that so much as mentions the kfunc, so this file is compiled twice.
#ifndef LAGGARD_WITHOUT_KFUNCS
void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym;
#endif

static __always_inline const struct tcp_sock *as_tcp(struct sock *sk)
{
#ifndef LAGGARD_WITHOUT_KFUNCS
  if (sk->sk_protocol != IPPROTO_TCP)
    return NULL;
  return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
#else
  return bpf_skc_to_tcp_sock(sk);
#endif
}

static __always_inline __u32 size_bucket(__u32 bytes)
{
  __u32 bucket = 0;
  if (bytes >= 1 << 16) { bucket += 16; bytes >>= 16; }
  if (bytes >= 1 << 8) { bucket += 8; bytes >>= 8; }
  if (bytes >= 1 << 4) { bucket += 4; bytes >>= 4; }
  if (bytes >= 1 << 2) { bucket += 2; bytes >>= 2; }
  bucket += bytes >> 1;
  return bucket < LAGGARD_SIZE_BUCKETS ? bucket : LAGGARD_SIZE_BUCKETS - 1;
}

static __noinline int start_run(struct laggard_sock_state *state, __u32 bytes)
{
  if (!state)
    return 0;
  __u32 bucket = size_bucket(state->run_bytes);
  if (bucket < LAGGARD_SIZE_BUCKETS)
    state->sizes[bucket] += state->run_reads;
  state->ended_bytes += (__u64)state->run_bytes * state->run_reads;
  state->run_bytes = bytes;
  state->run_reads = 0;
  return 0;
}

// The previous epoch of this socket is complete, and no sweep has shown that: tell user space, which also keeps sockets that
// are read fresh between two sweeps. A socket that is read in one epoch only never gets here. False: there is no room for it. Half
// of the ring is for what is told once, the end of a socket.
static __noinline bool announce(struct sock *sk, struct laggard_sock_state *state)
{
  if (!sk || !state)
    return false;
  if (__sync_fetch_and_add(&announced, 1) >= announced_at_most ||
      bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > ring_bytes / 2)
    return false;
  __u64 flags = ring_flags();
  struct laggard_socket_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (!record) {
    count_lost(LAGGARD_LOST_RING_FULL);
    return false;
  }
  state->flags |= LAGGARD_F_ANNOUNCED;
  fill_socket_record(record, sk, state);
  record->flags |= LAGGARD_F_FIRST_READ;
  bpf_ringbuf_submit(record, flags);
  return true;
}

static __noinline int begin_epoch(struct sock *sk, struct laggard_sock_state *state, int ret)
{
  if (!sk || !state)
    return 0;
  // What could not be said stays: a minimum of 0 must not get lost, it is what keeps us silent. The epoch is as long then.
  if (!state->epoch || state->told_epoch == state->epoch || announce(sk, state)) {
    state->min_unread_bytes = LAGGARD_UNKNOWN_U32;
    state->max_unread_bytes = 0;
    state->first_read_jiffies = bpf_jiffies64();
  }
  fold_read_bytes(state);
  struct task_struct *task = bpf_get_current_task_btf();
  if (!state->owner_tgid)
    set_owner(state, task);
  state->reader_tgid = task->tgid;
  state->epoch = epoch;
  // At once: many a socket is read once, and no hook tells when one of UDP ends.
  __u64 bytes = ret > 0 ? ret : 0;
  __sync_fetch_and_add(&state->folded_bytes, bytes);
  add_to_totals(task->tgid, bytes, SOCKETS_TRIED);
  return 0;
}

// False: the end of file.
static __noinline bool on_mptcp_read(struct sock *sk, struct laggard_sock_state *state, int ret)
{
  if (!sk || !state)
    return false;
  if (ret == 0) {
    if (sk->__sk_common.skc_state != TCP_ESTABLISHED)
      state->flags |= LAGGARD_F_EOF_SEEN;
    return false;
  }
  struct laggard_positions positions = mptcp_positions(sk);
  __u32 unread = positions.unread_bytes;
  state->read_rcv_nxt = positions.rcv_nxt;
  if (unread < state->min_unread_bytes)
    state->min_unread_bytes = unread;
  if (unread + ret > state->max_unread_bytes)
    state->max_unread_bytes = unread + ret;
  return true;
}

static __always_inline int on_read(struct sock *sk, int ret, int flags)
{
  if (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
    return 0;
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  if (!state) {
    if (!is_tracked(sk))
      return 0;
    state = create_state(sk);
    if (!state)
      return 0;
    // TCP says when it opens. What is older than us has its state from the first walk.
    if (sk->sk_protocol == IPPROTO_UDP)
      state->opened_jiffies = bpf_jiffies64();
  }
  if (state->epoch != epoch)
    begin_epoch(sk, state, ret);
  state->last_read_jiffies = bpf_jiffies64();

  if (ret < 0) {
    if (ret == -EAGAIN) {
      state->empty_reads++;
      state->min_unread_bytes = 0;
    }
    return 0;
  }
  const struct tcp_sock *tp = as_tcp(sk);
  if (tp) {
    __u32 rcv_nxt = tp->rcv_nxt;
    __u32 unread = rcv_nxt - tp->copied_seq;
    if (fin_queued(sk)) {
      // The FIN counts one in rcv_nxt until a read passes it. A read of no bytes says EOF only after the FIN.
      if (unread)
        unread--;
      else
        state->flags |= ret ? LAGGARD_F_EOF_EATEN : LAGGARD_F_EOF_SEEN;
    }
    if (ret == 0)
      return 0;
    state->read_rcv_nxt = rcv_nxt;
    bool closed = (__s32)(tp->rcv_wup + tp->rcv_wnd - rcv_nxt) < (__s32)tp->inet_conn.icsk_ack.rcv_mss;
    if (closed)
      state->closed_window_reads++;
    // Emptiness under a closed window is the window's doing, not the reader's.
    if (unread < state->min_unread_bytes && (unread || !closed))
      state->min_unread_bytes = unread;
    // A queue only grows between two reads: what it held before this one is the high-water mark.
    if (unread + ret > state->max_unread_bytes)
      state->max_unread_bytes = unread + ret;
  } else if (sk->sk_protocol == IPPROTO_MPTCP && !on_mptcp_read(sk, state, ret)) {
    return 0;
  }
  if ((__u32)ret != state->run_bytes)
    start_run(state, ret);
  state->run_reads++;
  return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(reads_tp, struct sock *sk, int ret, int flags)
{
  return on_read(sk, ret, flags);
}

// Before 6.3 there is no such tracepoint. sock->sk is NULL for a socket that is being torn down.
SEC("fexit/inet_recvmsg")
int BPF_PROG(reads_inet, struct socket *sock, struct msghdr *msg, size_t size, int flags, int ret)
{
  struct sock *sk = sock->sk;
  return sk ? on_read(sk, ret, flags) : 0;
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(reads_inet6, struct socket *sock, struct msghdr *msg, size_t size, int flags, int ret)
{
  struct sock *sk = sock->sk;
  return sk ? on_read(sk, ret, flags) : 0;
}

char LICENSE[] SEC("license") = "GPL";
