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

SEC("iter/bpf_sk_storage_map")
int sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
  struct sock *sk = ctx->sk;
  struct laggard_sock_state *state = ctx->value;
  if (!sk || !state)
    return 0;
  visited++;
  if (!emit_everything && !is_interesting(sk, state))
    return 0;
  struct laggard_socket_record record;
  state->flags |= LAGGARD_F_ANNOUNCED;
  fill_socket_record(&record, sk, state);
  // A full buffer makes the kernel ask for this socket again: what it did not take has not been announced.
  if (!bpf_seq_write(ctx->meta->seq, &record, sizeof(record)))
    state->announced_drops = record.drops;
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
