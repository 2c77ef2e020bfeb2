// SPDX-License-Identifier: GPL-2.0
// Feed `states`: when a TCP connection opened, when each side closed, who opened it, and when it is gone.
#include "lib/record.bpf.h"

// What was announced is gone.
static __always_inline int tell_end(struct sock *sk, struct laggard_sock_state *state)
{
  fold_read_bytes(state);
  if (!(state->flags & LAGGARD_F_ANNOUNCED))
    return 0;
  struct laggard_gone_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (!record) {
    count_lost(LAGGARD_LOST_RING_FULL);
    return 0;
  }
  record->header.kind = LAGGARD_RECORD_GONE;
  record->header.size = sizeof(*record);
  record->header.epoch = epoch;
  record->cookie = cookie_of(sk, state);
  record->mono_ns = bpf_ktime_get_ns();
  bpf_ringbuf_submit(record, ring_flags());
  return 0;
}

// A RST or a timeout may come while a process holds the socket on. What a process closes, or both ends did, passes here
// without an error.
static __always_inline int on_end(struct sock *sk)
{
  int error = sk->sk_err;
  // No tcp_destroy_sock for MPTCP: it ends here once nobody has it.
  bool is_gone = sk->sk_protocol == IPPROTO_MPTCP && !sk->sk_socket;
  if (!error && !is_gone)
    return 0;
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  if (!state)
    return 0;
  if (is_gone)
    return tell_end(sk, state);
  state->ended_jiffies = bpf_jiffies64();
  if (error == ECONNRESET || error == EPIPE)
    state->flags |= LAGGARD_F_RESET;
  if (error == ETIMEDOUT)
    state->flags |= LAGGARD_F_TIMED_OUT;
  return 0;
}

static __always_inline void restart(struct sock *sk, struct laggard_sock_state *state)
{
  __builtin_memset(state, 0, sizeof(*state));
  if (sk->sk_protocol == IPPROTO_MPTCP)
    renew_id(state);
}

// BPF_F_CLONE copied the listener's state. Its owner is ours too, the rest is not. This is softirq: the current task is
// whoever was interrupted.
static __always_inline void begin_child(struct sock *sk, struct laggard_sock_state *state)
{
  __u64 owner_start_ns = state->owner_start_ns;
  __u32 owner_tgid = state->owner_tgid;
  restart(sk, state);
  state->owner_start_ns = owner_start_ns;
  state->owner_tgid = owner_tgid;
  state->flags = LAGGARD_F_ACCEPTED;
}

// BPF_F_CLONE asks nobody whether there is room. It must not come to that the kernel has none: then there is no child either.
static __always_inline bool has_room_for_child(struct sock *sk)
{
  if (states_left > 0) {
    __sync_fetch_and_add(&states_left, -1);
    return true;
  }
  bpf_sk_storage_delete(&sockets, sk);
  count_lost(LAGGARD_LOST_NO_STORAGE);
  return false;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state_set, struct sock *sk, int oldstate, int newstate)
{
  if (!is_inet(sk) || !is_stream(sk))
    return 0;
  if (newstate == TCP_CLOSE)
    return on_end(sk);
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  if (!state)
    state = create_state(sk);
  if (!state)
    return 0;
  if (oldstate == TCP_LISTEN && newstate != TCP_LISTEN && !has_room_for_child(sk))
    return 0;
  __u64 now = bpf_jiffies64();
  switch (newstate) {
    case TCP_SYN_SENT:
    case TCP_LISTEN:
      // connect() and listen() run in the owner's context; a socket may be used again after a failed connect().
      restart(sk, state);
      set_owner(state, bpf_get_current_task_btf());
      if (newstate == TCP_SYN_SENT)
        state->flags = LAGGARD_F_CONNECTED;
      break;
    case TCP_SYN_RECV:
      if (oldstate == TCP_LISTEN)  // else a simultaneous open
        begin_child(sk, state);
      break;
    case TCP_ESTABLISHED:
      if (oldstate == TCP_LISTEN)  // of MPTCP
        begin_child(sk, state);
      state->opened_jiffies = now;
      break;
    case TCP_CLOSE_WAIT:
      state->peer_closed_jiffies = now;
      break;
    case TCP_FIN_WAIT1:
      state->shutdown_jiffies = now;
      break;
  }
  return 0;
}

// Whose sockets live for less than a look is known by their end. One that never had a peer is ended by who closes it, others
// in the context of anybody.
static __always_inline void note_user(struct sock *sk, const struct laggard_sock_state *state)
{
  struct task_struct *task = bpf_get_current_task_btf();
  if (state && state->owner_tgid)
    add_to_totals(state->owner_tgid, 0, SOCKETS_TRIED);
  else if (!sk->__sk_common.skc_dport && task->mm)
    add_to_totals(task->tgid, 0, 1);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(state_destroy, struct sock *sk)
{
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  note_user(sk, state);
  return state ? tell_end(sk, state) : 0;
}

char LICENSE[] SEC("license") = "GPL";
