// SPDX-License-Identifier: GPL-2.0
// Feed `sweep`: every tracked socket of every namespace, filtered here so that user space pays for the interesting ones.
#include "lib/record.bpf.h"

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
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  return tp && (tcp_unread_bytes(tp, sk) || tp->write_seq != tp->snd_una);
}

// Used and idle, and not known to have come out of a listener: one that is older than us is for user space to tell, which
// knows the ports that are listened on.
static __always_inline bool is_pooled(struct sock *sk, const struct laggard_sock_state *state)
{
  if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state != TCP_ESTABLISHED || (state->flags & LAGGARD_F_ACCEPTED) ||
      !(state->flags & (LAGGARD_F_CONNECTED | LAGGARD_F_SEEDED)))
    return false;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  return tp && !tcp_unread_bytes(tp, sk) && tp->write_seq == tp->snd_una && tp->bytes_received && tp->bytes_sent &&
         BPF_CORE_READ(sk, sk_socket, file);
}

static __always_inline void fill_pooled(struct laggard_pooled_record *record, struct sock *sk,
                                        const struct laggard_sock_state *state)
{
  __u64 now_jiffies = bpf_jiffies64(), now_ns = bpf_ktime_get_ns();
  __builtin_memset(record, 0, sizeof(*record));
  record->header.kind = LAGGARD_RECORD_POOLED;
  record->header.size = sizeof(*record);
  record->header.epoch = epoch;
  record->cookie = bpf_get_socket_cookie(sk);
  record->owner_start_ns = state->owner_start_ns;
  record->owner_tgid = state->owner_tgid;
  record->opened_ns = jiffies_to_mono(state->opened_jiffies, now_jiffies, now_ns);
  FILL_ADDRESSES(record, sk);
  record->family = sk->__sk_common.skc_family;
  record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
  record->flags = state->flags | LAGGARD_F_HAS_FILE;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return;
  __u64 arrival = widen_jiffies(tp->inet_conn.icsk_ack.lrcvtime, now_jiffies);
  __u64 sending = widen_jiffies(tp->lsndtime, now_jiffies);
  record->idle_since_ns = jiffies_to_mono(arrival > sending ? arrival : sending, now_jiffies, now_ns);
}

SEC("iter/bpf_sk_storage_map")
int sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
  struct sock *sk = ctx->sk;
  struct laggard_sock_state *state = ctx->value;
  if (!sk || !state)
    return 0;
  visited++;
  union {  // one after the other: the stack has 512 bytes
    struct laggard_socket_record socket;
    struct laggard_pooled_record pooled;
  } both;
  if (emit_pooled && is_pooled(sk, state)) {
    state->flags |= LAGGARD_F_ANNOUNCED;
    fill_pooled(&both.pooled, sk, state);
    bpf_seq_write(ctx->meta->seq, &both.pooled, sizeof(both.pooled));
  }
  if (!emit_everything && !is_interesting(sk, state))
    return 0;
  state->flags |= LAGGARD_F_ANNOUNCED;
  fill_socket_record(&both.socket, sk, state);
  // A full buffer makes the kernel ask for this socket again: what it did not take has not been announced.
  if (!bpf_seq_write(ctx->meta->seq, &both.socket, sizeof(both.socket)))
    state->announced_drops = both.socket.drops;
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
