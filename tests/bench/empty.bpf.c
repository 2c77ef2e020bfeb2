// SPDX-License-Identifier: GPL-2.0
// What the hook itself costs: a program that does nothing, on the hook of feed `reads`.
#include "lib/kernel.h"

SEC("tp_btf/sock_recv_length")
int BPF_PROG(empty, struct sock *sk, int ret, int flags)
{
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
