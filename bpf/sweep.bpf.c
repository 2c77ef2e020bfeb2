// SPDX-License-Identifier: GPL-2.0
// Feed `sweep`: every tracked socket of every namespace, filtered here so that user space pays for the interesting ones.
#include "lib/record.bpf.h"

// Where one record is made after the other: the stack is too small. One sweep runs at a time.
struct scratch {
  struct laggard_socket_record socket;
  struct laggard_pooled_record pooled;
  struct laggard_still_record still;
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} records SEC(".maps");

static __always_inline bool is_interesting(struct sock *sk, const struct laggard_sock_state *state)
{
  // Read in the epoch that just ended (or in this one): its numbers are fresh and worth having.
  if (state->epoch && epoch - state->epoch <= 1)
    return true;
  if (receive_drops(sk) != state->announced_drops)
    return true;
  __u8 tcp_state = sk->__sk_common.skc_state;
  if (sk->sk_protocol == IPPROTO_UDP)
    return sk->sk_receive_queue.qlen || BPF_CORE_READ((const struct udp_sock *)sk, reader_queue.qlen);
  // Listeners are few, and their ports tell which end of an older connection is the server.
  if (tcp_state == TCP_LISTEN || tcp_state == TCP_CLOSE_WAIT || tcp_state == TCP_FIN_WAIT1 ||
      tcp_state == TCP_FIN_WAIT2)
    return true;
  if (is_unaccepted(sk))
    return true;
  if (sk->sk_protocol == IPPROTO_MPTCP)
    return mptcp_positions(sk).unread_bytes ||
           BPF_CORE_READ((const struct mptcp_sock *)sk, write_seq) != BPF_CORE_READ((const struct mptcp_sock *)sk, snd_una);
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  return tp && (tcp_unread_bytes(tp, sk) || tp->write_seq != tp->snd_una || is_ended(tp, sk));
}

// A socket with nothing to do. Which end of a connection it is that is older than us is for user space to tell, which knows
// the ports that are listened on.
static __always_inline bool is_pooled(struct sock *sk, const struct laggard_sock_state *state)
{
  if (!BPF_CORE_READ(sk, sk_socket, file))
    return false;
  if (sk->sk_protocol == IPPROTO_UDP)
    return !sk->sk_receive_queue.qlen && !BPF_CORE_READ((const struct udp_sock *)sk, reader_queue.qlen);
  if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state != TCP_ESTABLISHED)
    return false;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  return tp && !tcp_unread_bytes(tp, sk) && tp->write_seq == tp->snd_una && tp->bytes_received && tp->bytes_sent;
}

static __always_inline __u64 later_of(__u64 one, __u64 other) { return one > other ? one : other; }

static __always_inline void fill_pooled(struct laggard_pooled_record *record, struct sock *sk,
                                        const struct laggard_sock_state *state)
{
  __u64 now_jiffies = bpf_jiffies64(), now_ns = bpf_ktime_get_ns();
  __builtin_memset(record, 0, sizeof(*record));
  record->header.kind = LAGGARD_RECORD_POOLED;
  record->header.size = sizeof(*record);
  record->header.epoch = epoch;
  record->cookie = cookie_of(sk, state);
  record->owner_start_ns = state->owner_start_ns;
  record->owner_tgid = state->owner_tgid;
  record->opened_ns = jiffies_to_mono(state->opened_jiffies, now_jiffies, now_ns);
  FILL_ADDRESSES(record, sk);
  record->family = sk->__sk_common.skc_family;
  record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
  record->flags = state->flags | LAGGARD_F_HAS_FILE;
  record->protocol = sk->sk_protocol;
  __u64 active = 0;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp) {
    active = later_of(widen_jiffies(tp->inet_conn.icsk_ack.lrcvtime, now_jiffies), widen_jiffies(tp->lsndtime, now_jiffies));
    // A client that answers keepalive probes is there. To who opened a connection that the server is there says nothing.
    if (!(state->flags & LAGGARD_F_CONNECTED))
      active = later_of(active, widen_jiffies(tp->rcv_tstamp, now_jiffies));
  } else {
    active = later_of(state->last_read_jiffies, state->opened_jiffies);
  }
  record->idle_since_ns = jiffies_to_mono(active, now_jiffies, now_ns);
}

static __always_inline __u64 mix(__u64 sum, __u32 low, __u32 high)
{
  return (sum ^ (low | (__u64)high << 32)) * 0x9e3779b97f4a7c15ULL;
}

// All that a record says of it, but for the time, as one number that differs where one of these does.
static __always_inline __u64 sum_of(struct sock *sk, const struct laggard_sock_state *state)
{
  struct socket *sock = sk->sk_socket;
  struct file *file = BPF_CORE_READ(sock, file);
  __u64 sum = mix(1, sk->__sk_common.skc_state, sk->sk_shutdown | (file ? 0x100 : 0) | (is_unaccepted(sk) ? 0x200 : 0) |
                                                    (file && BPF_CORE_READ(file, f_ep, first) ? 0x400 : 0));
  sum = mix(sum, sk->sk_backlog.rmem_alloc.counter, sk->sk_rcvbuf);
  sum = mix(sum, sk->sk_receive_queue.qlen, receive_drops(sk));
  sum = mix(sum, sk->sk_ack_backlog, sk->sk_max_ack_backlog);
  sum = mix(sum, sk->__sk_common.skc_flags, state->flags);
  sum = mix(sum, state->owner_tgid, state->reader_tgid);
  sum = mix(sum, state->epoch, state->min_unread_bytes);
  sum = mix(sum, state->run_reads, state->run_bytes);
  sum = mix(sum, state->ended_bytes, state->empty_reads);
  sum = mix(sum, state->read_rcv_nxt, state->ended_jiffies);
  if (sk->sk_protocol == IPPROTO_UDP)
    return mix(sum, BPF_CORE_READ((const struct udp_sock *)sk, reader_queue.qlen), 0);
  if (sk->sk_protocol == IPPROTO_MPTCP) {
    const struct mptcp_sock *msk = (const struct mptcp_sock *)sk;
    struct laggard_positions positions = mptcp_positions(sk);
    sum = mix(sum, positions.rcv_nxt, positions.unread_bytes);
    return mix(sum, BPF_CORE_READ(msk, snd_una), BPF_CORE_READ(msk, write_seq));
  }
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return sum;
  sum = mix(sum, tp->rcv_nxt, tp->copied_seq);
  sum = mix(sum, tp->snd_una, tp->write_seq);
  sum = mix(sum, tp->snd_wnd, tp->rcv_wup + tp->rcv_wnd);
  sum = mix(sum, tp->inet_conn.icsk_ack.lrcvtime, tp->rcv_tstamp);
  return mix(sum, tp->inet_conn.icsk_retransmits | tp->inet_conn.icsk_probes_out << 8 | tp->inet_conn.icsk_backoff << 16,
             tp->inet_conn.icsk_user_timeout ^ tp->inet_conn.icsk_ack.rcv_mss ^ is_rwnd_limited(tp));
}

// Who does not know a socket any more learns all of it again within so many sweeps.
#define SHOWN_AGAIN 64

// Whether all that there is to say of it found room.
static __always_inline bool show(struct seq_file *seq, struct sock *sk, struct laggard_sock_state *state)
{
  visited++;
  if (is_subflow(sk) && !is_unaccepted(sk))
    return true;
  fold_read_bytes(state);
  __u32 zero = 0;
  struct scratch *scratch = bpf_map_lookup_elem(&records, &zero);
  if (!scratch)
    return true;
  if (emit_pooled && is_pooled(sk, state)) {
    state->flags |= LAGGARD_F_ANNOUNCED;
    fill_pooled(&scratch->pooled, sk, state);
    if (bpf_seq_write(seq, &scratch->pooled, sizeof(scratch->pooled)))
      return false;
  }
  if (!emit_everything && !is_interesting(sk, state))
    return true;
  if (!state->shown_sum && !emit_everything && new_shown++ >= new_at_most)
    return true;
  state->flags |= LAGGARD_F_ANNOUNCED;
  __u64 sum = looks_once ? 1 : sum_of(sk, state);
  __u64 cookie = cookie_of(sk, state);
  bool is_known = !looks_once && state->shown_sum == sum && (sweep_number + (__u32)cookie) % SHOWN_AGAIN;
  if (is_known && !emit_everything) {
    scratch->still.header.kind = LAGGARD_RECORD_STILL;
    scratch->still.header.size = sizeof(scratch->still);
    scratch->still.header.epoch = epoch;
    scratch->still.cookie = cookie;
    scratch->still.mono_ns = bpf_ktime_get_ns();
    return !bpf_seq_write(seq, &scratch->still, sizeof(scratch->still));
  }
  fill_socket_record(&scratch->socket, sk, state);
  // A full buffer makes the kernel ask for this socket again: what it did not take has not been announced.
  if (bpf_seq_write(seq, &scratch->socket, sizeof(scratch->socket)))
    return false;
  state->announced_drops = scratch->socket.drops;
  state->shown_sum = sum;
  if (state->epoch != epoch)
    state->told_epoch = state->epoch;
  return true;
}

SEC("iter/bpf_sk_storage_map")
int sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
  struct sock *sk = ctx->sk;
  struct laggard_sock_state *state = ctx->value;
  if (sk && state)
    show(ctx->meta->seq, sk, state);
  return 0;
}

// The oldest ones: the queue's head is what is accepted next. All of them at once must fit into the iterator's buffer.
#define CHILDREN_SHOWN 16

// The marks are for those who may meet them after their listener.
static __noinline bool show_child(struct seq_file *seq, struct sock *child)
{
  if (!seq || !child || !is_unaccepted(child))
    return true;
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, child, NULL, 0);
  if (!state) {
    state = create_state(child);
    if (!state)
      return true;
    state->flags = LAGGARD_F_SEEDED | LAGGARD_F_ACCEPTED;  // else its handshake would have made one
  }
  if (!show(seq, child, state))
    return false;
  state->swept_in = sweep_number;
  return true;
}

static __noinline int forget_child(struct sock *child)
{
  struct laggard_sock_state *state = child ? bpf_sk_storage_get(&sockets, child, NULL, 0) : NULL;
  if (state)
    state->shown_sum = 0;
  return 0;
}

static __always_inline struct request_sock *oldest_waiting(struct sock *sk)
{
  struct tcp_sock *tp = sk->__sk_common.skc_state == TCP_LISTEN ? bpf_skc_to_tcp_sock(sk) : NULL;
  return tp ? tp->inet_conn.icsk_accept_queue.rskq_accept_head : NULL;
}

static __always_inline bool show_with_children(struct seq_file *seq, struct sock *sk, struct laggard_sock_state *state)
{
  bool all = show(seq, sk, state);
  struct request_sock *request = oldest_waiting(sk);
  for (int i = 0; i < CHILDREN_SHOWN && request; i++) {
    all = show_child(seq, request->sk) && all;
    request = request->dl_next;
  }
  if (sk->__sk_common.skc_state == TCP_LISTEN && sk->sk_protocol == IPPROTO_MPTCP)
    mptcp_waits |= BPF_CORE_READ((const struct mptcp_sock *)sk, first, sk_ack_backlog);
  return all;
}

// What was said of a file that did not fit as a whole is thrown away: it is asked for again, by the next read of this sweep or,
// before that, by another sweep. Nobody knows it.
static __always_inline void forget_shown(struct sock *sk, struct laggard_sock_state *state)
{
  state->shown_sum = 0;
  struct request_sock *request = oldest_waiting(sk);
  for (int i = 0; i < CHILDREN_SHOWN && request; i++) {
    forget_child(request->sk);
    request = request->dl_next;
  }
}

// For kernels that refuse an iterator over socket storage (seen on a 6.18 with lockdown): every socket has a file, but for
// those that wait in an accept queue, which are found through their listener. Unlocked: one that is accepted meanwhile is
// shown by its file or at the next look.
SEC("iter/task_file")
int sweep_files(struct bpf_iter__task_file *ctx)
{
  struct task_struct *task = ctx->task;
  struct file *file = ctx->file;
  if (!task || !file)
    return 0;
  struct socket *sock = bpf_sock_from_file(file);
  struct sock *sk = sock ? sock->sk : NULL;
  if (!sk || !is_tracked(sk))
    return 0;
  struct laggard_sock_state *state = state_of_file(sk, task);
  if (!state)
    return 0;
  struct seq_file *seq = ctx->meta->seq;
  bool all = state->swept_in == sweep_number || show_with_children(seq, sk, state);
  // Who holds it comes with the same walk: of those that user space knows, and of one of each process, which then uses sockets.
  if (emit_holders && (emit_everything || looks_once || (state->flags & LAGGARD_F_ANNOUNCED) || holder_shown != (__u32)task->tgid)) {
    if (show_holder(seq, task, ctx->fd, sk, state))
      holder_shown = task->tgid;
    else
      all = false;
  }
  if (all)
    state->swept_in = sweep_number;
  else
    forget_shown(sk, state);
  return 0;
}

// Only where mptcp_waits says so, for it costs by the size of the kernel's hash table. Of laggard's own network namespace.
SEC("iter/tcp")
int sweep_waiting(struct bpf_iter__tcp *ctx)
{
  struct sock_common *common = ctx->sk_common;
  struct tcp_sock *tp = common ? bpf_skc_to_tcp_sock(common) : NULL;
  if (!tp)
    return 0;
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, (struct sock *)tp, NULL, 0);
  if (!state || state->swept_in != sweep_number)
    show_child(ctx->meta->seq, (struct sock *)tp);
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
